//! Federation behind the door: who needn't prove anything is an address, everybody else a server.

use std::net::IpAddr;

use bytes::Bytes;
use http::Request;
use rhizome_edge::{Api, Asked, Held, Identity, Proof, Reservation};
use tokio_util::task::TaskTracker;

use crate::{
    Federation, MatrixError,
    budgets::Kind,
    xmatrix::{self, Claim},
};

/// 50 events of 64 KiB and 100 EDUs, with room for escapes.
const TRANSACTION_LIMIT: usize = 16 << 20;

impl Api for Federation {
    type Kind = Kind;
    /// What a server that must sign has signed with.
    type Claim = Option<Claim>;
    const CROSS_ORIGIN: bool = false;

    fn usual_kind(_: bool) -> Kind {
        Kind::Other
    }

    fn max_body(&self, kind: Kind) -> usize {
        match kind {
            Kind::Transaction => TRANSACTION_LIMIT,
            Kind::State | Kind::Media | Kind::Other => self.config().max_body_bytes,
        }
    }

    fn reservation(&self, peer: Option<IpAddr>) -> Option<Reservation> {
        self.budgets().reservation(peer)
    }

    fn unfinished(&self) -> &TaskTracker {
        &self.inbound().unfinished
    }

    async fn admit(
        &self,
        asked: Asked<Kind>,
        head: &Request<()>,
    ) -> Result<Option<Claim>, MatrixError> {
        match asked.proof {
            Proof::Nothing => {
                self.budgets().unsigned(asked.peer)?;
                Ok(None)
            }
            Proof::Server => {
                let claim = xmatrix::admit(self, asked.peer, head.headers()).await?;
                Ok(Some(claim))
            }
            Proof::User
            | Proof::UserIfAny
            | Proof::Administrator
            | Proof::Service
            | Proof::ServiceIfAny => {
                Err(MatrixError::unauthorized("Servers have no access tokens"))
            }
        }
    }

    async fn identify(
        &self,
        asked: Asked<Kind>,
        claim: Option<Claim>,
        request: &Request<Bytes>,
    ) -> Result<Identity, MatrixError> {
        let Some(claim) = claim else {
            return Ok(Identity::Nobody);
        };
        let origin = claim.verify(self.server_name(), request)?;
        self.sender().seen(&origin);
        let asked = (self.origins())
            .ask(&origin, asked.kind, request.body().len())
            .and_then(|()| self.budgets().signed(&origin, asked.kind));
        asked.inspect_err(|_| self.origins().limited(&origin))?;
        Ok(Identity::Server(origin))
    }

    fn hold(&self, _: Asked<Kind>, who: &Identity) -> Result<Option<Held>, MatrixError> {
        let Identity::Server(origin) = who else {
            return Ok(None);
        };
        let place = self.budgets().under_way(origin);
        let place = place.inspect_err(|_| self.origins().limited(origin))?;
        Ok(place.map(|place| Box::new(place) as Held))
    }
}

#[cfg(test)]
mod tests {
    use rhizome_edge::Table;

    use super::*;

    /// What is much at once is counted as such.
    #[test]
    fn endpoints_are_of_a_kind() {
        let table: Table<Federation> = crate::endpoints();
        let kind_of = |wanted: &str| {
            let mut found = table.endpoints().filter(|(path, ..)| *path == wanted);
            let (.., kind) = found.next().unwrap();
            assert!(found.all(|(.., other)| other == kind));
            kind
        };
        let federation = "/_matrix/federation";
        for (path, kind) in [
            ("/v1/send/{p1}", Kind::Transaction),
            ("/v1/state/{p1}", Kind::State),
            ("/v1/state_ids/{p1}", Kind::State),
            ("/v1/event_auth/{p1}/{p2}", Kind::State),
            ("/v1/send_join/{p1}/{p2}", Kind::State),
            ("/v2/send_join/{p1}/{p2}", Kind::State),
            ("/v1/publicRooms", Kind::State),
            ("/v1/media/download/{p1}", Kind::Media),
            ("/v1/media/thumbnail/{p1}", Kind::Media),
            ("/v1/backfill/{p1}", Kind::Other),
            ("/v1/event/{p1}", Kind::Other),
        ] {
            assert_eq!(kind_of(&format!("{federation}{path}")), kind, "{path}");
        }
        assert_eq!(kind_of("/_matrix/key/v2/server"), Kind::Other);
    }
}
