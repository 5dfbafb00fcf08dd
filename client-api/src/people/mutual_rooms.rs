//! Which rooms one shares with somebody (client-server API, "Mutual Rooms").

use axum::extract::State;
use rhizome_edge::{RawJson, Undecoded};
use rhizome_storage::RoomNo;
use ruma::{
    OwnedUserId, UserId,
    api::client::membership::get_mutual_rooms::{unstable, v1},
};
use serde_json::json;

use crate::{App, Caller, MatrixError, Ruma, content::pairs};

/// The most rooms in an answer.
const PAGE: usize = 500;

/// `GET /_matrix/client/v1/mutual_rooms`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<v1::Request>>,
) -> Result<RawJson, MatrixError> {
    page(&app, &who, req.query.as_deref()).await
}

/// `GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms`
pub async fn unstable(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<unstable::Request>>,
) -> Result<RawJson, MatrixError> {
    page(&app, &who, req.query.as_deref()).await
}

async fn page(app: &App, who: &Caller, query: Option<&str>) -> Result<RawJson, MatrixError> {
    let asked = Asked::parse(query.unwrap_or_default())?;
    if asked.user == who.user_id {
        return Err(MatrixError::invalid_param(
            "You are in all of your rooms: name another user",
        ));
    }
    let rooms = match app.store.known_user(&asked.user).await? {
        Some(other) => app.store.mutual_rooms(who.user, other).await?,
        None => Vec::new(),
    };
    let (told, next) = cut(&rooms, asked.after, PAGE);
    let joined = app.store.room_ids(told).await?;
    let mut answer = json!({ "joined": joined, "count": rooms.len() });
    if let Some(next) = next {
        answer["next_batch"] = token(next).into();
    }
    RawJson::of(&answer)
}

/// So many rooms after one, and after which to go on if there are more.
fn cut(rooms: &[RoomNo], after: Option<RoomNo>, most: usize) -> (&[RoomNo], Option<RoomNo>) {
    let told = rooms.partition_point(|room| after.is_some_and(|after| *room <= after));
    let left = &rooms[told..];
    let told = &left[..left.len().min(most)];
    let next = told.last().filter(|_| told.len() < left.len());
    (told, next.copied())
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    user: OwnedUserId,
    after: Option<RoomNo>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, MatrixError> {
        let pairs = pairs(query);
        let value = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| key == name);
            pair.map(|(_, value)| value.as_str())
        };
        let user = value("user_id")
            .ok_or_else(|| MatrixError::missing_param("user_id says who the other one is"))?;
        let invalid = || MatrixError::invalid_param("user_id is no user id");
        let user = UserId::parse(user).map_err(|_| invalid())?;
        user.validate_historical().map_err(|_| invalid())?;
        let unknown = || MatrixError::invalid_param("from isn't a next_batch of this endpoint");
        let after = value("from").map(|text| read(text).ok_or_else(unknown));
        Ok(Self {
            user,
            after: after.transpose()?,
        })
    }
}

/// The token to go on with after a room: rooms come in the order of their numbers, so those that are joined or left
/// meanwhile move nothing.
fn token(last: RoomNo) -> String {
    format!("m{last}")
}

fn read(token: &str) -> Option<RoomNo> {
    let digits = token.strip_prefix('m')?;
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some(RoomNo(digits.parse().ok().filter(|_| all_digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_each_room_once() {
        let rooms: Vec<RoomNo> = (1..=7).map(RoomNo).collect();
        let (mut told, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = cut(&rooms, after, 3);
            told.extend_from_slice(page);
            match next {
                Some(_) => after = next,
                None => break,
            }
        }
        assert_eq!(told, rooms);
        assert_eq!(cut(&rooms, None, 7), (&*rooms, None));
        // One that was left meanwhile moves nothing.
        assert_eq!(cut(&rooms[4..], Some(RoomNo(3)), 9).0, &rooms[4..]);
        assert_eq!(cut(&[], None, 7), (&[][..], None));
    }

    #[test]
    fn what_is_asked_is_read_strictly() {
        let asked = Asked::parse("user_id=%40bob%3Ahere&from=m17").unwrap();
        assert_eq!(asked.user, "@bob:here");
        assert_eq!(asked.after, Some(RoomNo(17)));
        assert_eq!(read(&token(RoomNo(3))), Some(RoomNo(3)));
        for wrong in [
            "",
            "from=m1",
            "user_id=",
            "user_id=bob",
            "user_id=%40bob",
            "user_id=%40b%00b%3Ahere",
            "user_id=%40bob%3Ahere&from=",
            "user_id=%40bob%3Ahere&from=m-1",
            "user_id=%40bob%3Ahere&from=m99999999999999999999",
            "user_id=%40bob%3Ahere&from=17",
        ] {
            assert!(Asked::parse(wrong).is_err(), "{wrong}");
        }
    }
}
