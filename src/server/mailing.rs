//! Mails, with what the operator set.

use std::sync::Arc;

use anyhow::Context as _;
use rhizome_client_api::Mailing;
use rhizome_mail::{LinkTemplate, Mailer, Templates, Throttle, UnsubscribeKey};
use rhizome_storage::random;

use super::secret_file;
use crate::config::Config;
use crate::tasks::Tasks;

/// What it takes to send mails, if any are to be sent.
///
/// # Errors
/// What can't be used of it.
pub(crate) fn mailing(config: &Config) -> anyhow::Result<Option<Arc<Mailing>>> {
    let from = &config.mail;
    let Some(server) = from.server() else {
        return Ok(None);
    };
    let mailer = Mailer::new(&server).context("the mail server can't be used; see mail")?;
    let templates = Templates::load(from.templates_path.as_deref())
        .context("a template of mails can't be used; see mail.templates_path")?;
    let path = from.key_path.clone();
    let path = path.unwrap_or_else(|| config.server.data_dir.join("mail.key"));
    let key = secret_file::load_or_create(&path, || Ok(random::bytes::<32>()?.to_vec()))?;
    let key = UnsubscribeKey::new(&key)
        .with_context(|| format!("{} can't be used; see mail.key_path", path.display()))?;
    let throttle = Throttle {
        delay: from.digest_delay.0,
        between: from.digest_pause.0,
        most: from.digest_longest_pause.0,
    };
    let links = LinkTemplate::parse(&from.link).context("mail.link can't be used")?;
    let name = config.server.name.clone();
    let mailing = Mailing::new(name, config.client_base(), mailer, templates, key);
    Ok(Some(Arc::new(
        mailing.with_throttle(throttle).with_links(links),
    )))
}

/// Looks once whether the mail server lets us in, so that operators hear of it before users do.
pub(crate) fn try_out(tasks: &Tasks, mailing: Option<Arc<Mailing>>) {
    let Some(mailing) = mailing else { return };
    tasks.supervise("mail server", move |stop| {
        let mailing = mailing.clone();
        async move {
            match mailing.check().await {
                Ok(()) => tracing::info!("the mail server lets us in"),
                Err(error) => tracing::error!(%error, "no mails can be sent now"),
            }
            // One that returns is started again.
            stop.cancelled().await;
            Ok(())
        }
    });
}
