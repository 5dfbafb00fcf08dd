//! Why something was not done with a file.

use std::sync::Arc;

use rhizome_protocol::Refusal;
use serde_json::Value;

use crate::pictures::PictureError;

/// Why something was not done with a file. Clones are the same failure, told to several who asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MediaError {
    /// There is none, or nobody gets it.
    #[error("There is no such file")]
    NotFound,
    /// Its bytes have not come, and didn't in the time that was waited for them.
    #[error("The file has not been uploaded yet")]
    NotYet,
    /// It has its bytes.
    #[error("The file was uploaded already")]
    AlreadyUploaded,
    /// The id was given to somebody else.
    #[error("The file's id was given to another user")]
    NotTheirs,
    /// It has more bytes than is allowed.
    #[error("A file may have at most {most} bytes")]
    TooLarge {
        /// How many are.
        most: u64,
    },
    /// Too many of the user's ids wait for their bytes.
    #[error("Too many files have been begun and not uploaded")]
    TooManyPending {
        /// When one of them waits no more.
        retry_after_ms: u64,
    },
    /// The user has uploaded as much as they may.
    #[error("You have uploaded as much as you may for now")]
    QuotaReached {
        /// What tells the user more of it.
        info_uri: Option<Arc<str>>,
    },
    /// What it holds isn't allowed here.
    #[error("This file is not allowed here")]
    Forbidden,
    /// No picture can be made of it.
    #[error("No thumbnail can be made of this file")]
    NoThumbnail,
    /// It is too large for pictures to be made of it.
    #[error("The picture is too large for a thumbnail to be made of it")]
    PictureTooLarge,
    /// It is broken, so what says where it was taken can't be taken off.
    #[error("The picture is broken: what says where it was taken can't be taken off")]
    BrokenPicture,
    /// Another server has it and doesn't give it.
    #[error("{0}")]
    Remote(#[from] FetchError),
    /// Too much is going on.
    #[error("The server is busy with other files")]
    Busy,
    /// The store where the bytes lie, or should, doesn't answer.
    #[error("the store of files doesn't answer: {0}")]
    Unreachable(Arc<str>),
    /// The bytes can't be written or read.
    #[error("the store of files failed: {0}")]
    Bytes(Arc<str>),
    /// The database failed.
    #[error(transparent)]
    Store(Arc<rhizome_storage::Error>),
}

/// Why another server's file can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It says that there is none.
    #[error("There is no such file")]
    NotFound,
    /// It says that the bytes have not come.
    #[error("The file has not been uploaded yet")]
    NotYet,
    /// There are more bytes than are kept here.
    #[error("The file is too large to be fetched from the other server")]
    TooLarge,
    /// It isn't asked now: it didn't answer lately, or too many of its files come already.
    #[error("The other server isn't asked for files just now")]
    Unasked,
    /// It doesn't answer, or not in a way that can be used; the text is for the log.
    #[error("The other server didn't give the file: {0}")]
    Failed(String),
}

/// Why an upload failed: the bytes didn't come, or weren't taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError<E> {
    /// They broke off: the error is the body's own.
    #[error("the upload broke off")]
    Body(E),
    /// They weren't taken.
    #[error(transparent)]
    Media(#[from] MediaError),
}

impl MediaError {
    pub(crate) fn bytes(what: impl std::fmt::Display) -> Self {
        Self::Bytes(what.to_string().into())
    }

    /// A store has failed; what isn't there is none of its failures here.
    pub(crate) fn place(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::HostUnreachable => Self::Unreachable(error.to_string().into()),
            _ => Self::bytes(error),
        }
    }
}

impl From<rhizome_storage::Error> for MediaError {
    fn from(error: rhizome_storage::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl<E> From<rhizome_storage::Error> for UploadError<E> {
    fn from(error: rhizome_storage::Error) -> Self {
        Self::Media(error.into())
    }
}

impl From<std::io::Error> for MediaError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound {
            return Self::NotFound;
        }
        Self::place(&error)
    }
}

impl From<PictureError> for MediaError {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::TooLarge => Self::PictureTooLarge,
            PictureError::Busy => Self::Busy,
            PictureError::NotAPicture | PictureError::Failed(_) => Self::NoThumbnail,
        }
    }
}

impl Refusal for MediaError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound | Self::Remote(FetchError::NotFound) => 404,
            Self::NotYet | Self::Remote(FetchError::NotYet) => 504,
            Self::AlreadyUploaded => 409,
            Self::NotTheirs | Self::Forbidden | Self::QuotaReached { .. } => 403,
            Self::TooLarge { .. } | Self::PictureTooLarge => 413,
            Self::TooManyPending { .. } => 429,
            Self::NoThumbnail | Self::BrokenPicture => 400,
            Self::Remote(FetchError::TooLarge | FetchError::Failed(_) | FetchError::Unasked) => 502,
            Self::Busy | Self::Unreachable(_) => 503,
            Self::Bytes(_) => 500,
            Self::Store(error) => error.status(),
        }
    }

    fn errcode(&self) -> &'static str {
        match self {
            Self::NotFound | Self::Remote(FetchError::NotFound) => "M_NOT_FOUND",
            Self::NotYet | Self::Remote(FetchError::NotYet) => "M_NOT_YET_UPLOADED",
            Self::AlreadyUploaded => "M_CANNOT_OVERWRITE_MEDIA",
            Self::QuotaReached { info_uri: Some(_) } => "M_USER_LIMIT_EXCEEDED",
            // Without an address that tells more that code may not be given.
            Self::NotTheirs | Self::Forbidden | Self::QuotaReached { info_uri: None } => {
                "M_FORBIDDEN"
            }
            Self::TooLarge { .. } | Self::PictureTooLarge | Self::Remote(FetchError::TooLarge) => {
                "M_TOO_LARGE"
            }
            Self::TooManyPending { .. } => "M_LIMIT_EXCEEDED",
            _ => "M_UNKNOWN",
        }
    }

    fn is_for_the_log(&self) -> bool {
        matches!(self, Self::Bytes(_) | Self::Unreachable(_) | Self::Store(_))
    }

    fn detail(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::TooManyPending { retry_after_ms } => {
                Some(("retry_after_ms", (*retry_after_ms).into()))
            }
            Self::QuotaReached { info_uri } => {
                let uri = info_uri.as_deref()?;
                Some(("info_uri", uri.into()))
            }
            _ => None,
        }
    }
}
