//! Letters by which it is found out whose an address is, and what its owner has to know.

use rhizome_mail::{Address, Approved, Known, Mail, Reset, Verify};
use ruma::UserId;

use super::mailing::{Mailing, Unsent};

impl Mailing {
    /// Sends the code by which somebody shows that an address is theirs. `place`: what of the link says of what session it
    /// is, and the code.
    pub(crate) async fn verify(&self, to: Address, code: &str, place: &str) -> Result<(), Unsent> {
        let content = self.templates().verify(&Verify {
            server: self.server().to_string(),
            code: code.to_owned(),
            link: self.link("verify", place)?,
        })?;
        self.send(Mail::new(to, content)).await
    }

    /// Tells a user that their address is that of an account already.
    pub(crate) async fn known(&self, to: Address, user: &UserId) -> Result<(), Unsent> {
        let content = self.templates().known(&Known {
            server: self.server().to_string(),
            user: user.to_string(),
        })?;
        self.send(Mail::new(to, content)).await
    }

    /// Tells a user that the operator has approved their account.
    pub(crate) async fn approved(&self, to: Address, user: &UserId) -> Result<(), Unsent> {
        let content = self.templates().approved(&Approved {
            server: self.server().to_string(),
            user: user.to_string(),
        })?;
        self.send(Mail::new(to, content)).await
    }

    /// Sends the code by which a user sets a new password.
    pub(crate) async fn reset(
        &self,
        to: Address,
        user: &UserId,
        (code, place): (&str, &str),
    ) -> Result<(), Unsent> {
        let content = self.templates().reset(&Reset {
            server: self.server().to_string(),
            user: user.to_string(),
            code: code.to_owned(),
            link: self.link("verify", place)?,
        })?;
        self.send(Mail::new(to, content)).await
    }
}
