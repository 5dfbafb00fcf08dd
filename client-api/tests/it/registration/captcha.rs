//! Captchas, with a service of the test's own.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::post as on_post};
use http::StatusCode;
use rhizome_client_api::config::{Captcha, CaptchaKind};
use rhizome_federation::testing::Network;
use rhizome_storage::{Store, testing::each_database};
use ruma::server_name;
use serde_json::{Value, json};

use super::{challenged, ok, refused, register, session};
use crate::harness::Server;

const CAPTCHA: &str = "m.login.recaptcha";

/// A service that finds one answer right, and writes down what it is asked.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<String>>>);

impl Service {
    fn attach(network: &Network) -> Self {
        let service = Self::default();
        let verify = async |State(service): State<Service>, form: String| {
            service.0.lock().unwrap().push(form.clone());
            if form.contains("response=broken") {
                return "<html>".to_owned();
            }
            let success = form.contains("response=right%26");
            json!({ "success": success, "error-codes": [] }).to_string()
        };
        let router = Router::new().route("/siteverify", on_post(verify));
        network.attach(server_name!("captcha"), router.with_state(service.clone()));
        service
    }
}

#[tokio::test]
async fn programs_are_kept_out() {
    each_database(async |store: Store| {
        let network = Network::default();
        let service = Service::attach(&network);
        let server = Server::on(store, &network, |config| {
            config.registration_rules.captcha = Some(Captcha {
                kind: CaptchaKind::Hcaptcha,
                site_key: "public".into(),
                secret: "se&cret".into(),
                verify_url: "https://captcha/siteverify".into(),
            });
        });
        let first = register(&server, "ada", Value::Null).await;
        let id = session(&first);
        assert_eq!(
            first.1["params"],
            json!({ CAPTCHA: { "public_key": "public" } })
        );
        challenged(first, None, &[]);
        let answered = async |answer: &str| {
            let auth = json!({ "type": CAPTCHA, "session": id, "response": answer });
            register(&server, "ada", auth).await
        };
        challenged(answered("wrong").await, Some("M_CAPTCHA_INVALID"), &[]);
        // Nobody is asked about what can't be an answer.
        let long = "x".repeat(20_000);
        for empty in ["", long.as_str()] {
            challenged(answered(empty).await, Some("M_CAPTCHA_INVALID"), &[]);
        }
        refused(answered("broken").await, 502, "M_UNKNOWN");
        network.cut(server_name!("captcha"));
        refused(answered("right&more").await, 502, "M_UNKNOWN");
        network.mend(server_name!("captcha"));
        ok(answered("right&more").await);
        // It is asked once, although the answer of ours was lost.
        let (status, _) = answered("right&more").await;
        assert_eq!(status, StatusCode::OK);
        let asked = service.0.lock().unwrap().clone();
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert_eq!(asked[2], "secret=se%26cret&response=right%26more");
    })
    .await;
}
