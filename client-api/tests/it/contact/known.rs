//! Who has a code sent may not learn who has an account here.

use rhizome_client_api::ClientConfig;

use super::{ADD, REGISTER, RESET, each, each_with, refused};

#[tokio::test]
async fn who_asks_is_told_of_addresses_as_clients_expect() {
    each(async |world| {
        world.user("ada", "ada@example.org", 0).await;
        refused(
            world.ask(RESET, "bob@example.org", 1).await,
            400,
            "M_THREEPID_NOT_FOUND",
        );
        refused(
            world.ask(REGISTER, "ADA@example.org", 1).await,
            400,
            "M_THREEPID_IN_USE",
        );
        assert_eq!(world.mails.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn who_asks_is_told_nothing_if_the_operator_wants_it_so() {
    let settings = |config: &mut ClientConfig| config.identity.hide_known = true;
    each_with(settings, async |world| {
        world.user("ada", "ada@example.org", 0).await;
        for (what, email, mails) in [
            (RESET, "bob@example.org", 1),
            (REGISTER, "ada@example.org", 2),
            (ADD, "ada@example.org", 3),
        ] {
            let (status, answer) = world.ask(what, email, 1).await;
            assert_eq!(status, 200, "{answer}");
            assert!(answer["sid"].is_string() && answer["submit_url"].is_string());
            let sid = answer["sid"].as_str().unwrap();
            refused(
                world.submit(sid, "secret", "guess").await,
                400,
                "M_TOKEN_INCORRECT",
            );
            // Who has the account is told so. No code is sent that serves nobody.
            let mail = world.mails.last(mails).await;
            let is_told = mail.contains("account already") && mail.contains("@ada:here");
            assert_eq!(is_told, mails > 1, "{mail}");
        }
        // Who it serves gets it.
        world.begin(RESET, "ada@example.org").await;
        let mail = world.mails.last(4).await;
        assert!(mail.contains("new password for @ada:here"), "{mail}");
    })
    .await;
}
