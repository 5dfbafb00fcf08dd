//! The rooms that a space holds, and those that spaces in it hold.

use std::sync::Arc;

use axum::extract::State;
use rhizome_edge::Undecoded;
use rhizome_federation::{RawJson, spaces};
use rhizome_rooms::access::Visitor;
use ruma::{OwnedServerName, RoomId, ServerName, UInt, api::client::space::get_hierarchy::v1};

use super::{
    known::{Known, Node, Wanted},
    place::{MAX_DEPTH, Place, Short},
    walk::{Extent, Step, Walk},
};
use crate::{App, Caller, MatrixError, Ruma, content::pairs, view::json::Json};

/// The rooms of a page.
const LIMIT: usize = 50;
/// The most rooms of a page.
const MAX_LIMIT: usize = 500;
/// The fewest rooms that are looked up together: of some, nothing is shown.
const MIN_LOOK_UP: usize = 20;
/// A page that has so many bytes ends.
const MAX_BYTES: usize = 2 << 20;
/// How many servers a request may name.
const MAX_VIA: usize = 20;
/// What servers to ask of the room are called, also as proposed (MSC4235).
const VIA: [&str; 2] = ["via", "org.matrix.msc4235.via"];

/// `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
pub async fn hierarchy(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<v1::Request>>,
) -> Result<RawJson, MatrixError> {
    let via = via_of(req.query.as_deref());
    let req = req.decode()?;
    let number = |wish: UInt| usize::try_from(wish).unwrap_or(usize::MAX);
    let bounds = (req.limit.map(number), req.max_depth.map(number));
    let wish = Wish::of(
        &req.room_id,
        req.suggested_only,
        bounds,
        req.from.as_deref(),
    )?;
    let visitor = Visitor::load(&app.store, who.user).await?;
    let mut known = Known::new(&app, visitor);
    let root = root(&app, &mut known, &who, &req.room_id, via).await?;
    page(&mut known, root, wish).await
}

/// The same for an administrator: of all rooms that this server knows, and of no other.
///
/// # Errors
/// 400 `M_INVALID_PARAM`; 404 `M_NOT_FOUND` if it doesn't know the space.
pub async fn of_operator(
    app: &App,
    room_id: &RoomId,
    bounds: (Option<usize>, Option<usize>),
    from: Option<&str>,
) -> Result<RawJson, MatrixError> {
    let wish = Wish::of(room_id, false, bounds, from)?;
    let mut known = Known::of_operator(app);
    let wanted = Wanted {
        room_id: room_id.to_owned(),
        via: Vec::new(),
        parent: None,
    };
    known.look_up(vec![wanted]).await?;
    let root = known.shown(room_id).cloned();
    let root = root.ok_or_else(|| MatrixError::not_found("This server isn't in the room"))?;
    page(&mut known, root, wish).await
}

/// How many rooms of what, from where.
struct Wish {
    limit: usize,
    extent: Extent,
    place: Option<Place>,
}

impl Wish {
    /// `bounds`: how many rooms, and how many levels below the root.
    fn of(
        room_id: &RoomId,
        suggested_only: bool,
        (limit, max_depth): (Option<usize>, Option<usize>),
        from: Option<&str>,
    ) -> Result<Self, MatrixError> {
        let limit = limit.unwrap_or(LIMIT);
        if limit == 0 {
            return Err(MatrixError::invalid_param(
                "limit must be greater than zero",
            ));
        }
        let max_depth = max_depth.unwrap_or(usize::from(MAX_DEPTH));
        let extent = Extent {
            suggested_only,
            max_depth: u8::try_from(max_depth).unwrap_or(u8::MAX).min(MAX_DEPTH),
        };
        let place = from.map(|token| {
            let place = Place::parse(token).filter(|place| place.root == Short::of(room_id));
            let place = place.ok_or_else(|| {
                MatrixError::invalid_param("from is no token that was given for this space")
            })?;
            if (place.suggested_only, place.max_depth) != (extent.suggested_only, extent.max_depth)
            {
                return Err(MatrixError::invalid_param(
                    "suggested_only and max_depth must be the same for all pages",
                ));
            }
            Ok(place)
        });
        Ok(Self {
            limit: limit.min(MAX_LIMIT),
            extent,
            place: place.transpose()?,
        })
    }
}

/// A page of what a space holds.
async fn page(known: &mut Known<'_>, root: Arc<Node>, wish: Wish) -> Result<RawJson, MatrixError> {
    let mut page = Page::new(wish.extent.suggested_only);
    let mut walk = match wish.place {
        None => {
            page.show(&root);
            Walk::begin(root, wish.extent)
        }
        Some(place) => Walk::resume(known, root, place).await?,
    };
    let is_full = |page: &Page| page.rooms >= wish.limit || page.bytes >= MAX_BYTES;
    let mut ended = false;
    while !ended && !is_full(&page) {
        match walk.step(known) {
            Step::Show(node) => page.show(&node),
            Step::Unknown if known.is_exhausted() => break,
            Step::Unknown => {
                let left = wish.limit.saturating_sub(page.rooms).max(MIN_LOOK_UP);
                let unknown = walk.unknown(known, left);
                known.look_up(unknown).await?;
            }
            Step::End => ended = true,
        }
    }
    let place = walk.place().filter(|_| !ended && !walk.is_at_end());
    Ok(page.finish(place.map(|place| place.token())))
}

/// The servers that a request names to be asked.
fn via_of(query: Option<&str>) -> Vec<OwnedServerName> {
    let pairs = pairs(query.unwrap_or_default()).into_iter();
    let named = pairs.filter(|(name, _)| VIA.contains(&name.as_str()));
    let named = named.filter_map(|(_, server)| ServerName::parse(server).ok());
    named.take(MAX_VIA).collect()
}

/// The space itself.
async fn root(
    app: &App,
    known: &mut Known<'_>,
    who: &Caller,
    room: &RoomId,
    via: Vec<OwnedServerName>,
) -> Result<Arc<Node>, MatrixError> {
    let wanted = Wanted {
        room_id: room.to_owned(),
        via: spaces::whom_to_ask(&app.federation, Some(&who.user_id), room, via).await?,
        parent: None,
    };
    known.look_up(vec![wanted]).await?;
    let root = known.shown(room).cloned();
    root.ok_or_else(|| {
        MatrixError::forbidden("There is no such room, or you may not know what it holds")
    })
}

/// The answer as it grows.
struct Page {
    json: Json,
    suggested_only: bool,
    rooms: usize,
    bytes: usize,
}

impl Page {
    fn new(suggested_only: bool) -> Self {
        let mut json = Json::with_capacity(64 << 10);
        json.open().key("rooms").open_list();
        Self {
            json,
            suggested_only,
            rooms: 0,
            bytes: 0,
        }
    }

    fn show(&mut self, node: &Node) {
        self.rooms += 1;
        let bytes = &mut self.bytes;
        self.json.with(|out| {
            let before = out.len();
            node.entry.write(out, self.suggested_only);
            *bytes += out.len() - before;
        });
    }

    fn finish(mut self, next: Option<String>) -> RawJson {
        self.json.close_list();
        if let Some(next) = next {
            self.json.key("next_batch").string(&next);
        }
        self.json.close();
        RawJson(self.json.finish().into())
    }
}
