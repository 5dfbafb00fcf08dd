//! The web as it is seen from here.

use ipnet::IpNet;

use super::{Outbound, Transport};
use crate::outbound::{
    dialer::Reach,
    web::{Messenger, Web},
};

impl Outbound {
    /// The web with these exceptions from what may not be connected to; `None` if it can't be had so.
    pub(crate) fn web_with(&self, ranges: &[IpNet]) -> Option<Web> {
        match &self.inner.transport {
            Transport::Network(connections) => connections
                .web_with(ranges)
                .inspect_err(|error| tracing::error!(%error, "no exceptions are made"))
                .ok(),
            #[cfg(any(test, feature = "testing"))]
            Transport::InProcess(..) => None,
        }
    }

    /// What brings something to web addresses; `None` if it can't be had.
    pub fn messenger(&self, reach: &Reach) -> Option<Messenger> {
        match &self.inner.transport {
            Transport::Network(connections) => connections
                .messenger(reach)
                .inspect_err(|error| tracing::error!(%error, "nothing can be sent to the web"))
                .ok(),
            #[cfg(any(test, feature = "testing"))]
            Transport::InProcess(network, web) => {
                Some(Messenger::in_process(web.config(), network.clone()))
            }
        }
    }

    /// Web addresses that others name, without exceptions from what may not be connected to.
    pub(crate) fn web(&self) -> &Web {
        match &self.inner.transport {
            Transport::Network(connections) => connections.web(),
            #[cfg(any(test, feature = "testing"))]
            Transport::InProcess(_, web) => web,
        }
    }
}
