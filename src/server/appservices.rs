//! Application services: what counts of them at the start, and when it is read again.

use std::sync::Arc;

use anyhow::Context as _;
use rhizome_appservice::{Registrations, Services};
use rhizome_client_api::{self as client_api, users};
use rhizome_storage::Store;

use crate::config::Config;
use crate::tasks::Tasks;

/// Reads registrations again, when that is wanted.
#[derive(Clone)]
pub(super) struct Reloading {
    config: Arc<Config>,
    store: Store,
    services: Services,
}

impl Reloading {
    /// From the files that the configuration named at the start.
    pub(super) fn new(config: &Arc<Config>, store: &Store, services: &Services) -> Self {
        Self {
            config: config.clone(),
            store: store.clone(),
            services: services.clone(),
        }
    }

    /// Reads them again; if something is wrong, what was so before stays.
    pub(super) async fn reload(&self) {
        match self.read().await {
            Ok(count) => tracing::info!(count, "application services read again"),
            Err(error) => tracing::error!("the application services stay as they were: {error:#}"),
        }
    }

    async fn read(&self) -> anyhow::Result<usize> {
        let config = self.config.clone();
        let read = move || config.appservices.load(&config.server.name);
        let read = tokio::task::spawn_blocking(read).await??;
        make_senders(&self.store, &read).await?;
        let count = read.len();
        self.services.replace(read);
        Ok(count)
    }
}

/// Reads registrations again whenever the operator's command says so.
pub(super) fn follow_commands(tasks: &Tasks, reloading: &Reloading) {
    // Which files there are, only a start reads.
    if reloading.config.appservices.files.is_empty() {
        return;
    }
    let reloading = reloading.clone();
    let mut commands = reloading.store.appservice_reloads();
    commands.mark_unchanged();
    tasks.supervise("registrations of application services", move |stop| {
        let (reloading, mut commands) = (reloading.clone(), commands.clone());
        async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    changed = commands.changed() => changed?,
                }
                reloading.reload().await;
            }
        }
    });
}

/// Sees to it that the services' own users are there.
pub(super) async fn make_senders(store: &Store, services: &Registrations) -> anyhow::Result<()> {
    for service in services.iter() {
        let (id, user) = (&service.id, &service.sender);
        let has_password = users::of_service(store, user).await.with_context(|| {
            format!("the user {user} of the application service {id:?} can't be made")
        })?;
        if has_password {
            tracing::warn!(
                service = id,
                %user,
                "an application service's own user has a password: whoever knows it acts as the service; give the service \
                 another sender_localpart"
            );
        }
    }
    Ok(())
}

/// Tells the services what happens.
pub(super) fn tell(tasks: &Tasks, app: &client_api::App) {
    let app = app.clone();
    tasks.supervise("application services", move |stop| {
        let app = app.clone();
        async move {
            client_api::told::run(&app, &stop).await;
            Ok(())
        }
    });
}
