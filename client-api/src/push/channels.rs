//! The ways on which notifications go out.

use std::{collections::HashMap, fmt, sync::Arc};

use rhizome_push::{Channel, Device, Gateways, Schemes, UnifiedPush, WebPush};

/// The kind of pushers whose gateway a client names.
const GATEWAY: &str = "http";
/// The kind of those that this server reaches by itself ([MSC4174](https://github.com/matrix-org/matrix-spec-proposals/pull/4174)).
pub(crate) const WEB_PUSH: &str = "webpush";

/// The ways that there are, by the kind of pusher and, where they are an app's, by that.
#[derive(Clone)]
pub struct Channels {
    gateways: Arc<dyn Channel>,
    unified_push: Option<Arc<UnifiedPush>>,
    web_push: Option<Arc<WebPush>>,
    /// Of one app.
    of_apps: HashMap<String, (&'static str, Arc<dyn Channel>)>,
    /// Which schemes the addresses of gateways may have.
    schemes: Schemes,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self::new(Schemes::Https)
    }
}

impl Channels {
    /// Gateways alone, at addresses of these schemes.
    pub fn new(schemes: Schemes) -> Self {
        Self {
            gateways: Arc::new(Gateways::new(schemes)),
            unified_push: None,
            web_push: None,
            of_apps: HashMap::new(),
            schemes,
        }
    }

    /// With this server as a gateway to endpoints of UnifiedPush.
    #[must_use]
    pub fn with_unified_push(self, channel: UnifiedPush) -> Self {
        Self {
            unified_push: Some(Arc::new(channel)),
            ..self
        }
    }

    /// With Web Push.
    #[must_use]
    pub fn with_web_push(self, channel: WebPush) -> Self {
        Self {
            web_push: Some(Arc::new(channel)),
            ..self
        }
    }

    /// With a way for the pushers of a kind and an app.
    #[must_use]
    pub fn with_app(
        mut self,
        kind: &'static str,
        app_id: String,
        channel: Arc<dyn Channel>,
    ) -> Self {
        self.of_apps.insert(app_id, (kind, channel));
        self
    }

    /// Which schemes the addresses that users name may have.
    pub(crate) fn schemes(&self) -> Schemes {
        self.schemes
    }

    /// Web Push, if it is set up.
    pub(crate) fn web_push(&self) -> Option<&WebPush> {
        self.web_push.as_deref()
    }

    /// Whether this server is a gateway to endpoints of UnifiedPush.
    pub(crate) fn has_unified_push(&self) -> bool {
        self.unified_push.is_some()
    }

    /// The way to a pusher of this kind, if there is one.
    pub(crate) fn of(&self, kind: &str, device: &Device) -> Option<&dyn Channel> {
        match kind {
            GATEWAY => {
                let unified = self.unified_push.as_deref();
                let unified = unified.filter(|unified| unified.is_named_by(device));
                return Some(unified.map_or(&*self.gateways, |unified| unified as &dyn Channel));
            }
            WEB_PUSH => return self.web_push().map(|web| web as &dyn Channel),
            _ => {}
        }
        let of_app = self
            .of_apps
            .get(&device.app_id)
            .filter(|(of, _)| *of == kind);
        of_app.map(|(_, channel)| &**channel)
    }
}
