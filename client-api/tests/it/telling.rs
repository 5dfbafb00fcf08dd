//! Servers of these tests have no readers of the log. What one does where they run, telling rooms of a changed profile, is
//! done when the change has been answered.

use futures_util::{FutureExt as _, future::BoxFuture};
use http::Method;
use rhizome_client_api::{App, TellProfiles};
use rhizome_storage::{LogWork as _, Pos, Stretch};

/// Whether a request changes a profile.
pub fn changes_profile(method: &Method, path: &str) -> bool {
    path.contains("/profile/") && [Method::PUT, Method::DELETE].contains(method)
}

/// Tells rooms what has changed after a position.
pub fn tell_rooms(app: &App, after: Pos) -> BoxFuture<'_, ()> {
    tell(app, after).boxed()
}

async fn tell(app: &App, after: Pos) {
    let upto = app.store.log().head();
    let entries = app.store.log().read(after, upto, 10_000).await.unwrap();
    let stretch = Stretch {
        entries,
        after,
        upto,
        failures: 0,
    };
    TellProfiles::new(&app.federation)
        .work(&stretch)
        .await
        .unwrap();
}
