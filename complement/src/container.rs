//! The container's entrypoint.
//!
//! A suite copies an authority into the container, starts it, stops it, commits it to an image and
//! starts that again, perhaps with another authority. So each start issues a certificate and writes
//! the configuration anew; database and signing key stay. Then this process becomes the server: as
//! PID 1 the server itself gets SIGTERM and ends at once.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::certificate;

/// Where the suite puts the authority.
const AUTHORITY: &str = "/complement/ca";
/// Where it puts registrations of application services, if a test has some.
const SERVICES: &str = "/complement/appservice/*.yaml";
/// Ours, in the container's own file system.
const DATA: &str = "/data";
const SERVER: &str = "/rhizome";

/// Returns only when it failed.
pub(crate) fn serve() -> anyhow::Result<Infallible> {
    let name = std::env::var("SERVER_NAME").context("SERVER_NAME is not set")?;
    let config = prepare(&name, Path::new(AUTHORITY), Path::new(DATA))?;
    let error = Command::new(SERVER)
        .args(["serve", "--config"])
        .arg(config)
        .exec();
    Err(error).context(SERVER)
}

/// Writes certificate, key and configuration to `data`; returns the configuration's path.
fn prepare(name: &str, authority: &Path, data: &Path) -> anyhow::Result<PathBuf> {
    let read = |file: &str| {
        let path = authority.join(file);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let write = |file: &str, text: &str| {
        let path = data.join(file);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        anyhow::Ok(path)
    };
    std::fs::create_dir_all(data)?;
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let issued = certificate::issue(host, &read("ca.crt")?, &read("ca.key")?)?;
    let certificate = write("tls.crt", &issued.certificate)?;
    let key = write("tls.key", &issued.key)?;
    let config = configuration(name, &authority.join("ca.crt"), &certificate, &key, data);
    write("rhizome.toml", &config)
}

/// What a conformance suite needs: open doors, no limits, quick retries.
fn configuration(name: &str, ca: &Path, certificate: &Path, key: &Path, data: &Path) -> String {
    // JSON strings are TOML strings.
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let path = |path: &Path| text(&path.to_string_lossy());
    format!(
        r#"[server]
name = {name}
data_dir = {data}
# Tests that name no version give the creator a power level, which version 12 refuses.
default_room_version = "11"

[http]
max_connections_per_address = 10000
drain_timeout = "500ms"

[registration]
mode = "open"
strangers_may_register_and_i_accept_the_abuse = true
shared_secret = "complement"

[rate_limits]
enabled = false

[server_notices]
localpart = "_server"

[appservices]
files = [{services}]

[media]
unauthenticated_downloads = "open"

[federation]
extra_ca_certificates = [{ca}]
denied_ranges = []
trusted_key_servers = []
# Tests wait five seconds for what comes from a server that was down.
retry_min = "250ms"
retry_max = "2s"
tell_device_names = true
partial_joins = true

[[listeners]]
address = "0.0.0.0:8008"

[[listeners]]
address = "0.0.0.0:8448"
apis = ["federation", "well_known"]
tls = {{ certificate = {certificate}, key = {key} }}
"#,
        name = text(name),
        data = path(data),
        services = text(SERVICES),
        ca = path(ca),
        certificate = path(certificate),
        key = path(key),
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    #[test]
    fn every_start_gets_a_certificate_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = dir.path().join("ca");
        std::fs::create_dir(&authority).unwrap();
        std::fs::write(
            authority.join("ca.crt"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        std::fs::write(authority.join("ca.key"), key.serialize_pem()).unwrap();

        let data = dir.path().join("data");
        let config = prepare("hs1", &authority, &data).unwrap();
        assert!(
            std::fs::read_to_string(config)
                .unwrap()
                .contains("name = \"hs1\"\n")
        );
        let first = std::fs::read(data.join("tls.crt")).unwrap();
        prepare("hs1", &authority, &data).unwrap();
        assert_ne!(std::fs::read(data.join("tls.crt")).unwrap(), first);
        let error = prepare("hs1", dir.path(), &data).unwrap_err();
        assert!(error.to_string().contains("ca.crt"), "{error}");
    }
}
