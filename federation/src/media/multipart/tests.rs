//! Reader and writer together: whatever comes in whatever pieces.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::head::FileHead;
use super::read::PartHead;
use super::*;

const BOUNDARY: &str = "a-boundary";

/// What is read of these pieces: the head, and the file.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(PartHead, Vec<u8>), Broken> {
    let mut reader = Reader::new(BOUNDARY);
    let (mut head, mut file) = (None, Vec::new());
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(said) = reader.next()? {
            match said {
                Said::Head(said) => assert_eq!(head.replace(said), None),
                Said::Bytes(bytes) => {
                    assert!(!bytes.is_empty());
                    file.extend_from_slice(&bytes);
                }
                Said::End => break,
            }
        }
    }
    reader.finish()?;
    Ok((head.unwrap(), file))
}

fn whole(body: &[u8]) -> Result<(PartHead, Vec<u8>), Broken> {
    read([body])
}

/// A file as we give it.
fn written(head: &FileHead, file: &[u8]) -> Vec<u8> {
    let frame = Frame::of_file(BOUNDARY, head).unwrap();
    let body = [&*frame.before, file, &*frame.after].concat();
    assert_eq!(frame.length(file.len() as u64), body.len() as u64);
    let named = boundary(frame.content_type.to_str().unwrap());
    assert_eq!(named.as_deref(), Some(BOUNDARY));
    body
}

fn pieces<'a>(body: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    at.extend([0, body.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

/// Bytes that look like delimiters, or nearly.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let bits = prop::sample::select(vec![
        &b"\r"[..],
        b"\n",
        b"\r\n",
        b"-",
        b"--",
        b"\r\n--a-boundar",
        b"a-boundary",
        b"y",
        b"x",
        b"\0",
        b"--a-boundary",
        b"\r\n--b",
        b"\r\r\n--a-",
    ]);
    prop::collection::vec(bits, 0..30).prop_map(|bits| bits.concat())
}

/// A file in which the delimiter isn't: neither by itself, nor with what is around it.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let any = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![tricky(), any].prop_filter("no delimiter in it", |file| {
        let delimiter = format!("\r\n--{BOUNDARY}").into_bytes();
        let around = [b"\r\n", &file[..], &delimiter].concat();
        memchr::memmem::find(&around, &delimiter) == Some(file.len() + 2)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_comes(
        file in file(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        name in prop::option::of("[a-zA-Zäöü€\"\\\\;= .-]{1,20}"),
    ) {
        let head = FileHead {
            content_type: Some("image/png".to_owned()),
            name: name.clone(),
            length: Some(file.len() as u64),
        };
        let body = written(&head, &file);
        let (read_head, read_file) = read(pieces(&body, &cuts)).unwrap();
        prop_assert_eq!(&read_file, &file);
        prop_assert_eq!(read_head.content_type.as_deref(), Some("image/png"));
        prop_assert_eq!(read_head.length, Some(file.len() as u64));
        prop_assert_eq!(read_head.name, name);
        prop_assert_eq!(read_head.location, None);
        // Byte by byte.
        let bytewise = read(body.chunks(1)).unwrap();
        prop_assert_eq!(bytewise.1, read_file);
    }

    #[test]
    fn what_is_cut_off_is_an_error(file in file(), cut in any::<prop::sample::Index>()) {
        let body = written(&FileHead::default(), &file);
        // The last dashes say nothing: some leave them out.
        let end = body.len() - b"--\r\n".len();
        prop_assert!(whole(&body[..cut.index(end)]).is_err());
        prop_assert!(whole(&body[..end]).is_ok());
    }

    #[test]
    fn whatever_comes_is_read_or_refused_alike_in_any_pieces(
        body in prop_oneof![tricky(), prop::collection::vec(any::<u8>(), 0..300)],
        begun in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut all = Vec::new();
        if begun {
            all.extend_from_slice(&Frame::of_file(BOUNDARY, &FileHead::default()).unwrap().before);
        }
        all.extend_from_slice(&body);
        let at_once = whole(&all);
        prop_assert_eq!(&read(pieces(&all, &cuts)), &at_once);
        prop_assert_eq!(read(all.chunks(1)), at_once);
    }
}

#[test]
fn bodies_of_other_servers_are_read() {
    let named = PartHead {
        content_type: Some("text/plain".to_owned()),
        name: Some("naïve.txt".to_owned()),
        ..PartHead::default()
    };
    let there = PartHead {
        location: Some("https://cdn.example/x?y".to_owned()),
        ..PartHead::default()
    };
    let plain = PartHead::default();
    for (body, head, file) in [
        // Synapse.
        (
            "\r\n--a-boundary\r\nContent-Type: application/json\r\n\r\n{}\r\n--a-boundary\r\n\
             Content-Type: text/plain\r\nContent-Disposition: inline; filename*=utf-8''na%C3%AFve.txt\
             \r\n\r\nhello\r\n--a-boundary--\r\n\r\n",
            &named,
            "hello",
        ),
        (
            "\r\n--a-boundary\r\nContent-Type: application/json\r\n\r\n{}\r\n--a-boundary\r\n\
             Location: https://cdn.example/x?y\r\n\r\n--a-boundary--\r\n\r\n",
            &there,
            "",
        ),
        // Servers with ruma.
        (
            "\r\n--a-boundary\r\ncontent-type: application/json\r\n\r\n{}\r\n--a-boundary\r\n\
             location: https://cdn.example/x?y\r\n\r\n\r\n--a-boundary",
            &there,
            "",
        ),
        // Go's writer: nothing before the first boundary.
        (
            "--a-boundary\r\nContent-Type: application/json\r\n\r\n{}\n\r\n--a-boundary\r\n\
             Content-Disposition: inline; filename=\"naïve.txt\"\r\nContent-Type: text/plain\r\n\r\n\
             hello\r\n--a-boundary--\r\n",
            &named,
            "hello",
        ),
        // What may be there and says nothing.
        (
            "preamble\r\n--a-boundary \t\r\n\r\n{\"x\": [1]}\r\n--a-boundary\r\nX: y\r\n z\r\n\r\n\
             hello\r\n--a-boundary\r\n\r\na third\r\n--a-boundary--\r\nepilogue",
            &plain,
            "hello",
        ),
        (
            "--a-boundary\n\n{}\r\n--a-boundary\n\nhello\r\n--a-boundary--",
            &plain,
            "hello",
        ),
    ] {
        let read = whole(body.as_bytes()).map_err(|error| format!("{error}: {body}"));
        assert_eq!(read, Ok((head.clone(), file.as_bytes().to_vec())));
    }
}

#[test]
fn broken_bodies_are_errors() {
    let begin = "--a-boundary\r\n\r\n{}\r\n--a-boundary\r\n";
    let many = "x: y\r\n".repeat(33);
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    let preamble = "x".repeat(5_000);
    let metadata = format!("--a-boundary\r\n\r\n{{\"x\":\"{}\"}}", "y".repeat(20_000));
    for (body, broken) in [
        (String::new(), Broken::CutOff),
        ("hello".to_owned(), Broken::CutOff),
        (preamble.clone(), Broken::NoBoundary),
        (
            format!("{preamble}\r\n{begin}\r\n\r\n--a-boundary"),
            Broken::NoBoundary,
        ),
        ("--a-boundary--\r\n".to_owned(), Broken::NoBoundary),
        ("--a-boundaryx\r\n\r\n".to_owned(), Broken::NoBoundary),
        (
            "--a-boundary\r\n\r\n{}\r\n--a-boundary--\r\n".to_owned(),
            Broken::NoBoundary,
        ),
        (
            "--a-boundary\r\n\r\n[]\r\n--a-boundary\r\n".to_owned(),
            Broken::Metadata,
        ),
        (
            "--a-boundary\r\n\r\n{\r\n--a-boundary\r\n".to_owned(),
            Broken::Metadata,
        ),
        (
            "--a-boundary\r\n\r\n--a-boundary\r\n".to_owned(),
            Broken::Metadata,
        ),
        (metadata, Broken::Metadata),
        (format!("{begin}hello\r\n\r\n"), Broken::Headers),
        (format!("{begin}{many}\r\n"), Broken::Headers),
        (format!("{begin}{long}"), Broken::Headers),
        (format!("{begin}{long}\r\n"), Broken::Headers),
        (format!("{begin}\r\nhello"), Broken::CutOff),
        (format!("{begin}\r\nhello\r\n--a-boundar"), Broken::CutOff),
        (format!("{begin}\r\nhello\n--a-boundary--"), Broken::CutOff),
    ] {
        let start: String = body.chars().take(60).collect();
        assert_eq!(whole(body.as_bytes()), Err(broken), "{start}");
    }
}

#[test]
fn redirects_are_written_too() {
    let frame = Frame::of_location(BOUNDARY, "https://s3.example/x?y=z").unwrap();
    let (head, file) = read([&*frame.before, &*frame.after]).unwrap();
    assert_eq!(head.location.as_deref(), Some("https://s3.example/x?y=z"));
    assert_eq!(file, b"");
}
