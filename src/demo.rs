//! This server as one of those that `rhizome demo` shows.

use rhizome_demo::{Homeserver, Place};

use crate::config::{Api, Config, Listener, RegistrationMode, Secret, Span, Tls, server_name};
use crate::server::{self, Running};

impl Homeserver for Running {
    type Config = Config;

    fn config(place: &Place) -> anyhow::Result<Config> {
        let mut config = Config::default();
        config.server.name = server_name(&place.name).map_err(anyhow::Error::msg)?;
        place.dir.clone_into(&mut config.server.data_dir);
        config.database.url = place.database.clone().map(Secret::new);
        config.listeners = vec![
            Listener {
                address: place.federation,
                apis: vec![Api::Federation],
                tls: Some(Tls {
                    certificate: place.certificate.clone(),
                    key: place.key.clone(),
                }),
            },
            Listener {
                address: place.client,
                apis: vec![Api::Client, Api::Admin, Api::WellKnown],
                tls: None,
            },
        ];
        config.http.drain_timeout = Span::secs(5);
        config.registration.mode = RegistrationMode::Open;
        config
            .registration
            .strangers_may_register_and_i_accept_the_abuse = true;
        config.rate_limits.enabled = false;
        config.federation.extra_ca_certificates = vec![place.ca.clone()];
        config.federation.allowed_ranges = vec!["127.0.0.0/8".parse()?, "::1/128".parse()?];
        config.federation.trusted_key_servers = Vec::new();
        config.federation.request_timeout = Span::secs(10);
        config.federation.retry_min = Span::millis(200);
        config.federation.retry_max = Span::secs(1);
        Ok(config)
    }

    async fn start(config: Config) -> anyhow::Result<Self> {
        server::start(config).await
    }

    async fn stop(self) {
        self.shutdown().await;
    }
}
