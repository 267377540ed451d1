//! Any text is a reference or is refused, without a panic; what is one has one normal form, which
//! is safe as a part of a URL's path.

#![no_main]

use berth_imageservice::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    let normal = reference.to_string();
    let again = normal.parse::<Reference>();
    assert!(again.is_ok_and(|again| again == reference), "{normal}");
    let parts = || reference.path().split('/');
    assert!(parts().all(|part| !part.is_empty() && !part.starts_with('.')), "{normal}");
    assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()), "{normal}");
});
