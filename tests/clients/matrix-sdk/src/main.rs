//! People on two homeservers, with matrix-sdk.
//!
//! usage: client talk|crypto|sliding URL_OF_ALICES_SERVER URL_OF_BOBS_SERVER
//!
//! Fails with a sentence when something doesn't arrive, or can't be read.

mod crypto;
mod people;
mod sliding;
mod talk;

use anyhow::{Context as _, Result, bail};
use tokio::time::timeout;

use people::PATIENCE;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [story, alices_server, bobs_server] = args[..] else {
        bail!("usage: client talk|crypto|sliding ALICES_SERVER BOBS_SERVER");
    };
    let told = async {
        match story {
            "talk" => talk::tell(alices_server, bobs_server).await,
            "crypto" => crypto::tell(alices_server, bobs_server).await,
            "sliding" => sliding::tell(alices_server, bobs_server).await,
            _ => bail!("there is no story {story}"),
        }
    };
    timeout(5 * PATIENCE, told)
        .await
        .context("not done in time")?
}
