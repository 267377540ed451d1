//! What the integration tests cannot see: numbers, positions, and archives of every length.

use super::*;

fn entries(bytes: &[u8]) -> io::Result<Vec<(String, Kind, u64)>> {
    let mut reader = TarReader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        found.push((
            String::from_utf8_lossy(&entry.name).into_owned(),
            entry.kind,
            reader.position(),
        ));
    }
    Ok(found)
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in
        [("one", "1".repeat(700)), (&*"long/".repeat(60), String::new()), ("two", "2".into())]
    {
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_entry_type(if content.is_empty() {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_cksum();
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn members_follow_each_other() {
    let found = entries(&archive()).unwrap();
    let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["one", &*"long/".repeat(60), "two"]);
    assert_eq!((&found[0].1, found[0].2), (&Kind::File { size: 700, segments: None }, 512));
    assert_eq!(found[1].1, Kind::Directory);
    let two = usize::try_from(found[2].2).unwrap();
    assert_eq!(archive()[two], b'2');
}

#[test]
fn an_archive_cut_anywhere_is_an_error_or_ends_between_members() {
    let whole = archive();
    let complete = entries(&whole).unwrap().len();
    for cut in 0..whole.len() {
        let is_in_padding = |found: &[(String, Kind, u64)]| match found.last() {
            Some((_, Kind::File { size, .. }, position)) => cut as u64 >= position + size,
            _ => false,
        };
        match entries(&whole[..cut]) {
            Ok(found) => assert!(
                cut % 512 == 0 || found.len() == complete || is_in_padding(&found),
                "cut at {cut}"
            ),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut at {cut}"),
        }
    }
}

#[test]
fn an_old_directory_is_marked_by_its_slash() {
    let mut header = Header::new_old();
    header.as_old_mut().name[..2].copy_from_slice(b"d/");
    header.as_old_mut().linkflag = [0];
    header.set_cksum();
    assert_eq!(entries(header.as_bytes()).unwrap()[0].1, Kind::Directory);
}

#[test]
fn checksums_of_signed_bytes_are_old_but_right() {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[0] = 0xff;
    header.as_old_mut().linkflag = [b'5'];
    header.set_cksum();
    let unsigned = header.cksum().unwrap();
    header.as_old_mut().cksum =
        *format!("{:06o}\0 ", unsigned - 256).as_bytes().first_chunk().unwrap();
    assert!(entries(header.as_bytes()).is_ok());
    header.as_old_mut().cksum =
        *format!("{:06o}\0 ", unsigned - 1).as_bytes().first_chunk().unwrap();
    assert!(entries(header.as_bytes()).is_err());
}

#[test]
fn numbers_of_all_notations() {
    for (field, value) in [
        (&b"0000644\0"[..], 0o644),
        (b"   644 \0", 0o644),
        (b"644\0\0\0\0\0", 0o644),
        (b"\0\0\0\0\0\0\0\0", 0),
        (b"        ", 0),
        (b"\x80\0\0\0\0\0\x01\0", 256),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        (b"77777777777\0", 0o77_777_777_777),
    ] {
        assert_eq!(number(field).unwrap(), value, "{field:?}");
    }
    for field in [
        &b"-000001\0"[..],
        b"+000001\0",
        b"0000a44\0",
        b"0000 44\0",
        b"0000898\0",
        b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(number(field).is_err(), "{field:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_in_entries_or_an_error(mut blocks: Vec<[u8; 32]>, kind in "[0-9xgLKSZ]") {
        // Blocks with a right checksum get further than noise.
        let bytes: Vec<u8> = blocks.iter_mut().flat_map(|noise| {
            let mut header = Header::new_gnu();
            header.as_mut_bytes()[..32].copy_from_slice(noise);
            header.as_old_mut().size[..3].copy_from_slice(&[noise[0], noise[1], noise[2]].map(|b| b'0' + b % 8));
            header.as_old_mut().linkflag = [kind.as_bytes()[0]];
            header.set_cksum();
            *header.as_bytes()
        }).collect();
        let _ = entries(&bytes);
    }
}
