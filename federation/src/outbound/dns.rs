//! Name lookups: addresses and SRV records.

use std::{net::IpAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::ResolveHosts,
    proto::rr::{RData, RecordType},
};

use crate::outbound::discovery::Srv;

/// How long a name lookup may take.
const DNS_TIMEOUT: Duration = Duration::from_secs(6);

/// A reason in words; the causes here are many and only ever shown or logged.
pub(crate) type Reason = String;

/// Name lookups: the system's resolvers and its hosts file.
pub(crate) struct Dns {
    /// Absent when the system has no usable configuration: then addresses come from the C library.
    resolver: Option<TokioResolver>,
    /// For tests: the addresses of names, one answer after the other, the last for ever.
    #[cfg(test)]
    told: Option<Told>,
}

#[cfg(test)]
type Told = std::sync::Mutex<std::collections::HashMap<String, Vec<Vec<IpAddr>>>>;

impl Dns {
    pub(crate) fn system() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.use_hosts_file = ResolveHosts::Always;
            options.cache_size = 4096;
            options.timeout = Duration::from_millis(2500);
            builder.build()
        });
        let resolver = resolver
            .inspect_err(|error| {
                tracing::warn!(%error, "no DNS configuration: SRV records can't be looked up");
            })
            .ok();
        Self {
            resolver,
            #[cfg(test)]
            told: None,
        }
    }

    /// One that knows these names alone.
    #[cfg(test)]
    pub(crate) fn told<'a>(names: impl IntoIterator<Item = (&'a str, Vec<Vec<IpAddr>>)>) -> Self {
        let names = names.into_iter();
        let names = names.map(|(name, answers)| (name.to_owned(), answers));
        Self {
            resolver: None,
            told: Some(std::sync::Mutex::new(names.collect())),
        }
    }

    /// The addresses of a host.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Reason> {
        #[cfg(test)]
        if let Some(told) = &self.told {
            let mut names = told.lock().map_err(|error| error.to_string())?;
            let answers = names.get_mut(host).ok_or("no such name")?;
            let answer = answers.first().cloned().unwrap_or_default();
            if answers.len() > 1 {
                answers.remove(0);
            }
            return Ok(answer);
        }
        let lookup = async {
            match &self.resolver {
                Some(resolver) => {
                    // Rooted, so that no search domain is tried. Single labels (as in container
                    // networks) are left to the system's ways.
                    let rooted = if host.contains('.') {
                        format!("{host}.")
                    } else {
                        host.to_owned()
                    };
                    let found = resolver
                        .lookup_ip(rooted)
                        .await
                        .map_err(|e| e.to_string())?;
                    Ok(found.iter().collect())
                }
                None => Ok(tokio::net::lookup_host((host, 0))
                    .await
                    .map_err(|e| e.to_string())?
                    .map(|address| address.ip())
                    .collect()),
            }
        };
        tokio::time::timeout(DNS_TIMEOUT, lookup)
            .await
            .unwrap_or_else(|_| Err("the lookup took too long".to_owned()))
    }

    /// The SRV records of a name; none when it has none or DNS isn't configured.
    pub(crate) async fn srv(&self, name: &str) -> Result<Vec<Srv>, Reason> {
        let Some(resolver) = &self.resolver else {
            return Ok(Vec::new());
        };
        let lookup = tokio::time::timeout(DNS_TIMEOUT, resolver.lookup(name, RecordType::SRV));
        let found = match lookup.await {
            Err(_) => return Err(format!("the lookup of {name} took too long")),
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => {
                return Ok(Vec::new());
            }
            Ok(Err(error)) => return Err(format!("the lookup of {name} failed: {error}")),
            Ok(Ok(found)) => found,
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    target: srv.target.to_ascii(),
                    port: srv.port,
                }),
                _ => None,
            });
        Ok(records.collect())
    }
}
