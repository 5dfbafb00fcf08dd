//! Whether a server can be reached by others, a step at a time, and what to do about what is wrong: the same way that questions
//! to it go. Each step is taken by `outbound::probe`, and judged by plain functions of what it saw (`way`, `place`).

mod certificate;
mod finding;
mod place;
mod way;

use std::net::SocketAddr;

use rhizome_protocol::sign::KeyPair;
use rhizome_storage::Clock;
use ruma::ServerName;

pub use finding::{Finding, Level};

use crate::{
    ConfigError, FederationConfig,
    outbound::{
        Route, answer,
        probe::{Asked, Probe},
    },
    servers::Direction,
};

const VERSION: &str = "/_matrix/federation/v1/version";
const KEYS: &str = "/_matrix/key/v2/server";
/// Bytes of an answer about the version.
const MAX_VERSION: usize = 64 << 10;
/// Addresses that are looked at, of all targets.
const MAX_ADDRESSES: usize = 8;

/// What is to be looked at.
pub struct Check<'a> {
    /// The settings of federation.
    pub config: &'a FederationConfig,
    /// Which server.
    pub server: &'a ServerName,
    /// If it is this one: the key that it signs with.
    pub own: Option<&'a KeyPair>,
    /// What the time is here.
    pub clock: &'a Clock,
}

/// What was found so far, told as it is found.
struct Report<'a> {
    findings: Vec<Finding>,
    tell: &'a mut dyn FnMut(&Finding),
}

impl Report<'_> {
    fn add(&mut self, finding: Finding) {
        (self.tell)(&finding);
        self.findings.push(finding);
    }
}

impl Check<'_> {
    /// Looks at each step, and tells what it finds as it finds it. All of that.
    ///
    /// # Errors
    /// The settings can't be used.
    pub async fn run(&self, tell: &mut dyn FnMut(&Finding)) -> Result<Vec<Finding>, ConfigError> {
        let mut report = Report {
            findings: Vec::new(),
            tell,
        };
        self.rules(&mut report);
        // Whoever checks their own server means it, wherever it is.
        let open = FederationConfig {
            denied_ranges: Vec::new(),
            ..self.config.clone()
        };
        let config = if self.own.is_some() {
            &open
        } else {
            self.config
        };
        let probe = Probe::new(config)?;
        if let Some((route, addresses)) = self.find(&probe, &mut report).await {
            let mut ways = 0;
            for address in &addresses {
                let has_way = self.look_at(&probe, &route, *address, &mut report).await;
                ways += usize::from(has_way);
            }
            if ways == 0 && !addresses.is_empty() {
                report.add(place::no_way());
            }
        }
        Ok(report.findings)
    }

    /// What the configuration says.
    fn rules(&self, report: &mut Report<'_>) {
        if !self.config.enabled {
            report.add(Finding::bad(
                "lists",
                "this server talks to no other",
                "set federation.enabled = true, and restart the server",
            ));
        }
        if self.own.is_some() {
            return;
        }
        for direction in [Direction::In, Direction::Out] {
            let closed = self.config.servers.configured(direction, self.server);
            report.add(way::rules(direction, closed));
        }
    }

    /// Where the server listens, and those of its addresses that may be connected to.
    async fn find(
        &self,
        probe: &Probe,
        report: &mut Report<'_>,
    ) -> Option<(Route, Vec<SocketAddr>)> {
        let (route, asked) = probe.route(self.server).await;
        for asked in &asked {
            report.add(match asked {
                Asked::WellKnown { host, answer } => way::well_known(host, answer),
                Asked::Srv { name, found } => way::srv(name, found),
            });
        }
        report.add(way::route(&route));
        let route = route.ok()?;
        let mut addresses = Vec::new();
        for target in &route.targets {
            let found = probe.addresses(target).await;
            report.add(way::addresses(target, &found));
            addresses.extend(found.unwrap_or_default());
        }
        addresses.truncate(MAX_ADDRESSES);
        if let Some(finding) = way::families(&addresses) {
            report.add(finding);
        }
        addresses.retain(|address| {
            let is_public = self.config.may_connect_to(address.ip());
            if !is_public {
                report.add(way::egress(address.ip(), self.own.is_some()));
            }
            is_public || self.own.is_some()
        });
        Some((route, addresses))
    }

    /// What is at one address. `false`: this machine has no way there.
    async fn look_at(
        &self,
        probe: &Probe,
        route: &Route,
        address: SocketAddr,
        report: &mut Report<'_>,
    ) -> bool {
        let connected = probe.connect(address).await;
        report.add(place::connection(address, &connected));
        if let Err(unconnected) = connected {
            return !unconnected.has_no_way;
        }
        Box::pin(self.ask_at(probe, route, address, report)).await;
        true
    }

    /// What the server says at an address to which connections can be opened.
    async fn ask_at(
        &self,
        probe: &Probe,
        route: &Route,
        address: SocketAddr,
        report: &mut Report<'_>,
    ) {
        let asking = match probe.asking(route, address) {
            Ok(asking) => asking,
            Err(why) => {
                let remedy = "install the system's CA certificates (ca-certificates)";
                report.add(Finding::bad("tls", why, remedy));
                return;
            }
        };
        let version = asking.get(VERSION, MAX_VERSION).await;
        let shown = asking.shown();
        let answered = version.as_ref().map(|_| ()).map_err(String::as_str);
        let now_ms = self.clock.now_ms();
        let name = &route.certificate_name;
        report.add(place::tls(
            address,
            name,
            shown.as_ref(),
            answered,
            now_ms / 1000,
        ));
        if shown.is_none_or(|shown| shown.fault.is_some()) {
            return;
        }
        report.add(place::version(address, &version));
        let keys = asking.get(KEYS, answer::KEYS).await;
        if let Ok(answer) = &keys
            && let Some(finding) = place::clock(answer.headers(), self.clock.now_ms() / 1000)
        {
            report.add(finding);
        }
        let (finding, told) = place::keys(address, self.server, &keys, self.clock.now_ms());
        report.add(finding);
        if let (Some(told), Some(own)) = (told, self.own) {
            report.add(place::own_key(&told, own));
        }
    }
}
