//! What a container runs, in which environment.

use std::collections::HashSet;

use berth_imageservice::{Identity, Image};
use tonic::Status;

use crate::api::runtime::{ContainerConfig, KeyValue};

use super::invalid;

/// Where programs are looked for when neither the image nor the client says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Program and arguments. A command of the client's takes the place of the image's entrypoint
/// and of its arguments; arguments alone take the place of the image's.
pub(super) fn args(config: &ContainerConfig, image: &Image) -> Result<Vec<String>, Status> {
    let of_image = image.config().config().clone().unwrap_or_default();
    let entrypoint = of_image.entrypoint().clone().unwrap_or_default();
    let cmd = of_image.cmd().clone().unwrap_or_default();
    let args = merge(&config.command, &config.args, entrypoint, cmd);
    match args.first() {
        None => Err(invalid("config.command", "is missing, and the image has none either")),
        Some(program) if program.is_empty() => Err(invalid("config.command[0]", "is empty")),
        Some(_) => match args.iter().position(|arg| arg.contains('\0')) {
            Some(index) => Err(invalid(&format!("argument {index}"), "has a NUL in it")),
            None => Ok(args),
        },
    }
}

fn merge(
    command: &[String],
    args: &[String],
    entrypoint: Vec<String>,
    cmd: Vec<String>,
) -> Vec<String> {
    match (command.is_empty(), args.is_empty()) {
        (true, true) => [entrypoint, cmd].concat(),
        (true, false) => [entrypoint, args.to_vec()].concat(),
        (false, _) => [command.to_vec(), args.to_vec()].concat(),
    }
}

/// The working directory: the client's, else the image's, else the root.
pub(super) fn working_directory(config: &ContainerConfig, image: &Image) -> Result<String, Status> {
    let of_image = image.config().config().as_ref();
    let of_image = of_image.and_then(|config| config.working_dir().clone());
    let directory = Some(config.working_dir.clone()).filter(|directory| !directory.is_empty());
    let directory = directory.or(of_image).filter(|directory| !directory.is_empty());
    let directory = directory.unwrap_or_else(|| "/".to_owned());
    if !directory.starts_with('/') || directory.contains('\0') {
        return Err(invalid("config.working_dir", format!("{directory:?} is not absolute")));
    }
    Ok(directory)
}

/// The environment, byte for byte: the image's, then the client's, of two variables with one
/// name the later. `PATH`, `HOME`, `HOSTNAME` and, on a terminal, `TERM` are there in any case.
pub(super) fn environment(
    config: &ContainerConfig,
    image: &Image,
    identity: &Identity,
    hostname: &str,
) -> Result<Vec<Vec<u8>>, Status> {
    let of_image = image.config().config().as_ref();
    let of_image = of_image.and_then(|config| config.env().clone()).unwrap_or_default();
    let mut variables = vec![("HOSTNAME", hostname), ("PATH", PATH), ("HOME", &identity.home)];
    if config.tty {
        variables.push(("TERM", "xterm"));
    }
    let ours = variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    // An entry without "=" is no variable (CVE-2026-57231 comes of guessing what it could be).
    let of_image = of_image.into_iter().filter(|entry| entry.contains('=')).map(String::into_bytes);
    let of_client = config.envs.iter().enumerate().map(|(index, variable)| {
        let entry = [variable.key.as_bytes(), b"=", &variable.value].concat();
        check_variable(index, variable).map(|()| entry)
    });
    let of_client = of_client.collect::<Result<Vec<_>, _>>()?;
    Ok(last_of_each(ours.chain(of_image).chain(of_client).collect()))
}

fn check_variable(index: usize, variable: &KeyValue) -> Result<(), Status> {
    let field = format!("config.envs[{index}]");
    if variable.key.is_empty() || variable.key.contains(['=', '\0']) {
        return Err(invalid(&format!("{field}.key"), format!("{:?} is no name", variable.key)));
    }
    if variable.value.contains(&0) {
        return Err(invalid(&format!("{field}.value"), "has a NUL in it"));
    }
    Ok(())
}

/// Drops variables that a later one of the same name overrides.
fn last_of_each(entries: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let name = |entry: &[u8]| entry.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    let mut seen = HashSet::new();
    let mut kept: Vec<_> =
        entries.into_iter().rev().filter(|entry| seen.insert(name(entry))).collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_and_arguments_are_merged_as_kubernetes_says() {
        for (command, args, expected) in
            [("", "", "entry cmd"), ("", "a", "entry a"), ("c", "", "c"), ("c", "a", "c a")]
        {
            let merged = merge(&words(command), &words(args), words("entry"), words("cmd"));
            assert_eq!(merged, words(expected), "{command:?} {args:?}");
        }
    }

    #[test]
    fn of_two_variables_with_one_name_the_later_counts() {
        let entries = ["A=1", "B=2", "A=3=4"].map(|entry| entry.as_bytes().to_vec());
        let kept = last_of_each(entries.to_vec());
        assert_eq!(kept, ["B=2", "A=3=4"].map(|entry| entry.as_bytes().to_vec()));
    }

    #[test]
    fn names_of_variables_cannot_smuggle_others() {
        let check = |key: &str, value: &'static [u8]| {
            check_variable(3, &KeyValue { key: key.into(), value: value.into() })
        };
        assert!(check("A", b"any \xff bytes\n").is_ok());
        for (key, value) in [("", &b"x"[..]), ("A=B", b"x"), ("A\0", b"x"), ("A", b"x\0")] {
            let status = check(key, value).unwrap_err();
            assert!(status.message().starts_with("config.envs[3]"), "{}", status.message());
        }
    }
}
