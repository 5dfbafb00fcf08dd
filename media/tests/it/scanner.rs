use std::sync::Arc;
use std::time::Duration;

use rhizome_media::{MediaConfig, MediaError, NewFile, NoPictures, ScannerConfig, UploadError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{ALICE, World, body, each_with, noise, read};

async fn try_upload(world: &World, bytes: &[u8]) -> Result<String, MediaError> {
    let uploaded = world
        .media
        .upload(Some(ALICE), NewFile::default(), body(bytes))
        .await;
    uploaded
        .map(|uploaded| uploaded.media_id)
        .map_err(|error| match error {
            UploadError::Media(error) => error,
            UploadError::Body(never) => match never {},
        })
}

fn says(file: &[u8], word: &str) -> bool {
    file.windows(word.len()).any(|part| part == word.as_bytes())
}

/// One question of a clamd: what it is about is taken as clients send it.
async fn clamd(mut socket: TcpStream) {
    let mut command = [0; 10];
    socket.read_exact(&mut command).await.unwrap();
    assert_eq!(&command, b"zINSTREAM\0");
    let mut file = Vec::new();
    loop {
        let length = socket.read_u32().await.unwrap() as usize;
        if length == 0 {
            break;
        }
        let from = file.len();
        file.resize(from + length, 0);
        socket.read_exact(&mut file[from..]).await.unwrap();
    }
    let answer: &[u8] = if says(&file, "virus") {
        b"stream: Eicar-Signature FOUND\0"
    } else if says(&file, "broken") {
        b"INSTREAM size limit exceeded. ERROR\0"
    } else {
        b"stream: OK\0"
    };
    socket.write_all(answer).await.unwrap();
}

/// One question over HTTP, with a length.
async fn http(mut socket: TcpStream) {
    let mut got = Vec::new();
    let (head, length) = loop {
        let mut byte = [0];
        socket.read_exact(&mut byte).await.unwrap();
        got.push(byte[0]);
        if got.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(std::mem::take(&mut got))
                .unwrap()
                .to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            break (head, length);
        }
    };
    assert!(head.starts_with("post /scan "), "{head}");
    let mut file = vec![0; length];
    socket.read_exact(&mut file).await.unwrap();
    let answer: &[u8] = if says(&file, "virus") {
        b"HTTP/1.1 403 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    } else if says(&file, "broken") {
        b"HTTP/1.1 500 oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    } else {
        b"HTTP/1.1 204 fine\r\nconnection: close\r\n\r\n"
    };
    socket.write_all(answer).await.unwrap();
}

async fn story(world: &World) {
    let fine = noise(200_000, 40);
    let id = try_upload(world, &fine).await.unwrap();
    assert_eq!(read(&world.find(&id).await.unwrap()).await, fine);
    let virus = [&fine[..], b"virus"].concat();
    assert!(matches!(
        try_upload(world, &virus).await,
        Err(MediaError::Forbidden)
    ));
    assert!(matches!(
        try_upload(world, b"broken").await,
        Err(MediaError::Busy)
    ));
    assert_eq!(world.files().await.map(|files| files.len()), [1, 0]);
}

#[tokio::test]
async fn clamd_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            clamd(socket).await;
        }
    });
    let settings = |config: &mut MediaConfig| {
        config.scanner = Some(ScannerConfig::ClamdTcp(address.clone()));
    };
    each_with(settings, Arc::new(NoPictures), story).await;
}

#[tokio::test]
async fn an_address_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/scan", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            http(socket).await;
        }
    });
    let settings = |config: &mut MediaConfig| {
        config.scanner = Some(ScannerConfig::Http(address.clone()));
    };
    each_with(settings, Arc::new(NoPictures), story).await;
}

#[tokio::test]
async fn forbidden_files_are_neither_taken_nor_given() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    // SHA-256 of "bad" and "worse".
    let bad = "fc8d2a6b5f6a9b7a3a4f5d6c7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9012";
    std::fs::write(&list, format!("# a list\n\n{bad}  some/file\n")).unwrap();
    let settings = |config: &mut MediaConfig| config.forbidden_hashes = Some(list.clone());
    each_with(settings, Arc::new(NoPictures), async |world| {
        let id = try_upload(world, b"not yet").await.unwrap();
        let blob = world
            .store
            .media("here.example", &id)
            .await
            .unwrap()
            .unwrap()
            .blob
            .unwrap();
        std::fs::write(&list, format!("{bad}\n{}\n", blob.sha256)).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        std::fs::File::open(&list)
            .unwrap()
            .set_modified(later)
            .unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let media = world.media.clone();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { media.run(stop).await }
        });
        rhizome_storage::testing::eventually("the list is read again", async || {
            world.clock.advance(Duration::from_mins(1));
            world.find(&id).await.is_none()
        })
        .await;
        assert!(matches!(
            try_upload(world, b"not yet").await,
            Err(MediaError::Forbidden)
        ));
        stop.cancel();
        running.await.unwrap();
        std::fs::write(&list, format!("{bad}\n")).unwrap();
    })
    .await;
}
