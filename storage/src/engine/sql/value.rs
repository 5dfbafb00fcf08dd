//! What the columns of tables hold, and how it is told to the databases and read back.
//!
//! Both databases are spoken to in numbers, texts and bytes. What a type of ours is there is said once,
//! here: [`Value`] on the way in, [`Column`] on the way out. Text may come from strangers, so it is always
//! escaped on the way in and unescaped on the way out (`engine/dialect.rs`).

use std::borrow::Cow;
use std::sync::Arc;

use rhizome_protocol::RoomRules;
use ruma::{
    DeviceId, EventId, OwnedDeviceId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    OwnedUserId, RoomAliasId, RoomId, ServerName, UserId,
};
use serde::{Serialize, Serializer};
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

use super::row::{Plain, ReadRow};
use crate::engine::dialect::{Sort, escaped, unescaped};
use crate::{Error, EventNo, KeyNo, Pos, Result, RoomNo, ServerNo, SetNo, SnapshotNo, UserNo};

/// A value as a database takes it.
#[derive(Debug, Clone)]
pub(crate) enum Cell<'a> {
    Null,
    Number(i64),
    Text(Cow<'a, str>),
}

impl Cell<'_> {
    /// The same, borrowed from nobody.
    pub(crate) fn owned(self) -> Cell<'static> {
        match self {
            Self::Null => Cell::Null,
            Self::Number(number) => Cell::Number(number),
            Self::Text(text) => Cell::Text(text.into_owned().into()),
        }
    }

    /// Appends it to a statement's arguments.
    pub(super) fn add_to(self, arguments: &mut PgArguments, sort: Sort) -> sqlx::Result<()> {
        let added = match (self, sort) {
            (Self::Null, Sort::Number) => arguments.add(None::<i64>),
            (Self::Null, Sort::Text) => arguments.add(None::<String>),
            (Self::Number(number), _) => arguments.add(number),
            (Self::Text(text), _) => arguments.add(text.into_owned()),
        };
        added.map_err(sqlx::Error::Encode)
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// What can be bound to a statement, by itself or in a row of [`rows!`](super::rows).
pub(crate) trait Value {
    const SORT: Sort;
    fn cell(&self) -> Cell<'_>;
}

/// What can be read from a column.
pub(crate) trait Column: Sized {
    /// A number, a text or bytes.
    type Plain: Plain;
    fn of(plain: Self::Plain) -> Result<Self>;
}

/// A row that was read: its columns by their names.
pub(crate) trait Columns {
    /// The column with this name. What it is read as follows from where it goes.
    fn get<T: Nullable>(&self, name: &str) -> Result<T>;
}

impl Columns for ReadRow {
    fn get<T: Nullable>(&self, name: &str) -> Result<T> {
        T::read(self, name)
    }
}

/// A [`Column`], or an `Option` of one for what may be NULL.
pub(crate) trait Nullable: Sized {
    fn read(row: &ReadRow, name: &str) -> Result<Self>;
}

impl<T: Column> Nullable for T {
    fn read(row: &ReadRow, name: &str) -> Result<Self> {
        let plain = T::Plain::read(row, name)?;
        T::of(plain.ok_or_else(|| Error::broken(format!("the column {name} is NULL")))?)
    }
}

impl<T: Column> Nullable for Option<T> {
    fn read(row: &ReadRow, name: &str) -> Result<Self> {
        T::Plain::read(row, name)?.map(T::of).transpose()
    }
}

impl<T: Value + ?Sized> Value for &T {
    const SORT: Sort = T::SORT;
    fn cell(&self) -> Cell<'_> {
        (**self).cell()
    }
}

impl<T: Value> Value for Option<T> {
    const SORT: Sort = T::SORT;
    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Null, Value::cell)
    }
}

// ---- numbers

/// Types that are numbers in the database: how they are made into one and out of one.
macro_rules! numbers {
    ($($type:ty: |$value:ident| $into:expr, |$plain:ident| $from:expr;)*) => {$(
        impl $crate::engine::sql::Value for $type {
            const SORT: $crate::engine::sql::Sort = $crate::engine::sql::Sort::Number;
            fn cell(&self) -> $crate::engine::sql::Cell<'_> {
                let $value = *self;
                $crate::engine::sql::Cell::Number($into)
            }
        }

        impl $crate::engine::sql::Column for $type {
            type Plain = i64;
            fn of($plain: i64) -> $crate::Result<Self> {
                $from
            }
        }
    )*};
}
pub(crate) use numbers;

numbers! {
    i64: |number| number, |number| Ok(number);
    // A count or an index; what doesn't fit has never been written.
    usize: |count| i64::try_from(count).unwrap_or(i64::MAX), |number| usize::try_from(number).map_err(|_| Error::broken("a count is negative"));
    u64: |count| i64::try_from(count).unwrap_or(i64::MAX), |number| u64::try_from(number).map_err(|_| Error::broken("a count is negative"));
    bool: |flag| i64::from(flag), |number| Ok(number != 0);
    RoomNo: |no| no.0, |number| Ok(Self(number));
    EventNo: |no| no.0, |number| Ok(Self(number));
    UserNo: |no| no.0, |number| Ok(Self(number));
    ServerNo: |no| no.0, |number| Ok(Self(number));
    KeyNo: |no| no.0, |number| Ok(Self(number));
    SnapshotNo: |no| no.0, |number| Ok(Self(number));
    SetNo: |no| no.0, |number| Ok(Self(number));
    Pos: |pos| pos.0, |number| Ok(Self(number));
}

// ---- texts

/// Types that are text in the database on the way in.
macro_rules! texts_in {
    ($($type:ty),* $(,)?) => {$(
        impl Value for $type {
            const SORT: Sort = Sort::Text;
            fn cell(&self) -> Cell<'_> {
                Cell::Text(escaped(self.as_ref()))
            }
        }
    )*};
}

texts_in! {
    str, String, Cow<'_, str>, Arc<str>,
    EventId, RoomId, UserId, ServerName, DeviceId, RoomAliasId,
    OwnedEventId, OwnedRoomId, OwnedUserId, OwnedServerName, OwnedDeviceId, OwnedRoomAliasId,
}

/// Types that are text in the database on the way out; the text was one when it was written.
macro_rules! texts_out {
    ($($type:ty),* $(,)?) => {$(
        impl Column for $type {
            type Plain = String;
            fn of(plain: String) -> Result<Self> {
                Self::try_from(unescaped(plain))
                    .map_err(|_| Error::broken("a stored identifier is not valid"))
            }
        }
    )*};
}

texts_out! {
    String, Arc<str>,
    OwnedEventId, OwnedRoomId, OwnedUserId, OwnedServerName, OwnedDeviceId, OwnedRoomAliasId,
}

impl Value for RoomRules {
    const SORT: Sort = Sort::Text;
    fn cell(&self) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(self.id()))
    }
}

impl Column for &'static RoomRules {
    type Plain = String;
    fn of(plain: String) -> Result<Self> {
        RoomRules::named(&plain)
            .ok_or_else(|| Error::broken(format!("a stored room has the unknown version {plain}")))
    }
}

impl Column for Vec<u8> {
    type Plain = Self;
    fn of(plain: Self) -> Result<Self> {
        Ok(plain)
    }
}
