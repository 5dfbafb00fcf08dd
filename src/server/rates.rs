//! From the configuration to what limits how often somebody may do something.

use rhizome_client_api::config as client_api;

use crate::config::{Config, Exempt, Rate, RateLimits};

/// What clients may do how often.
pub(super) fn of_clients(config: &Config) -> client_api::RateLimits {
    let limits = &config.rate_limits;
    client_api::RateLimits {
        enabled: limits.enabled,
        message: rate(limits.message),
        registration: rate(limits.registration),
        login: rate(limits.login),
        join: rate(limits.join),
        invite: rate(limits.invite),
        to_device: rate(limits.to_device),
        new_server: rate(limits.new_server),
        upload: rate(limits.upload),
        download: rate(limits.download),
        fetch: rate(limits.fetch),
        validation: rate(limits.validation),
        other: rate(limits.other),
        new_account_age: config.new_accounts.age.0,
        new_account_invite: rate(config.new_accounts.invite),
        new_account_room: rate(config.new_accounts.room),
        proxies: config.http.trusted_proxies.iter().map(network).collect(),
        ..exceptions(limits)
    }
}

fn network(network: &ipnet::IpNet) -> client_api::Network {
    client_api::Network {
        address: network.addr(),
        bits: network.prefix_len(),
    }
}

/// Whom limits don't hold back, or others.
fn exceptions(limits: &RateLimits) -> client_api::RateLimits {
    let mut out = client_api::RateLimits::default();
    for one in &limits.exempt {
        match one {
            Exempt::User(user) => drop(out.exempt_users.insert(user.clone())),
            Exempt::Network(one) => out.exempt_networks.push(network(one)),
        }
    }
    for one in &limits.overrides {
        let own = &one.rates;
        let rates = client_api::UserRates {
            message: own.message.map(rate),
            join: own.join.map(rate),
            invite: own.invite.map(rate),
            to_device: own.to_device.map(rate),
            new_server: own.new_server.map(rate),
            upload: own.upload.map(rate),
            download: own.download.map(rate),
            fetch: own.fetch.map(rate),
            other: own.other.map(rate),
        };
        out.overrides.insert(one.user.clone(), rates);
    }
    out
}

fn rate(rate: Rate) -> client_api::Rate {
    client_api::Rate {
        per_second: rate.per_second,
        burst: rate.burst,
    }
}
