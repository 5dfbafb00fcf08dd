//! `rhizome decode`: what the server starts to parse strangers' files, with this program's own allocator.

use rhizome_decoder::picture::{Accepts, Ask, Made, Method};
use rhizome_decoder::{Decoders, Error, Excess, Fault, Limits, Program, Settings};

fn decoders(limits: Limits) -> Decoders {
    let program = Program::Other(env!("CARGO_BIN_EXE_rhizome").into(), vec!["decode".into()]);
    Decoders::new(Settings {
        program,
        limits,
        ..Settings::default()
    })
}

/// A GIF whose screen has forty megapixels, and whose only frame has one pixel.
fn large() -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend_from_slice(&8000_u16.to_le_bytes());
    file.extend_from_slice(&5000_u16.to_le_bytes());
    file.extend_from_slice(&[0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    file.extend_from_slice(&[0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 0x01, 0, 0x3b]);
    file
}

#[tokio::test]
async fn a_large_picture_fits_into_the_default_limits() {
    let ask = Ask {
        width: 80,
        height: 50,
        method: Method::Scale,
        animated: false,
        accepts: Accepts::default(),
    };
    let all = decoders(Limits::default())
        .thumbnails(&*large(), &[ask], true)
        .await
        .unwrap();
    let Made::Thumbnail(made) = &all.made[0] else {
        panic!("{all:?}");
    };
    assert_eq!((made.width, made.height), (80, 50));
}

#[tokio::test]
async fn one_that_wants_more_than_there_is_ends_cleanly() {
    let limits = Limits {
        memory: 100 << 20,
        ..Limits::default()
    };
    let error = decoders(limits).probe(&*large()).await.unwrap_err();
    assert!(
        matches!(error, Error::Fault(Fault::TooLarge(Excess::Memory))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_picture_comes_back_as_it_went() {
    let file = vec![42; 3_000_000];
    let mut out = Vec::new();
    decoders(Limits::default())
        .strip(&*file, &mut out)
        .await
        .unwrap();
    assert!(out == file);
}
