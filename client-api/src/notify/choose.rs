//! What of what waits is told next: pure.

use std::time::Duration;

use rhizome_push::Backoff;
use rhizome_storage::{About, Pos, Push, RoomNo};

/// Of a room's events that wait together so many are told, the newest; highlights besides.
const OF_A_ROOM: usize = 5;

/// What comes next of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is told.
    Tell(Push),
    /// It is passed over: what comes after it says as much, or it is too old.
    Pass(Push),
}

/// What comes next of what waits, in the order of the log; `None` if nothing does.
fn next(waiting: &[Push], now_ms: i64, backoff: &Backoff) -> Option<Next> {
    let (first, others) = waiting.split_first()?;
    let age = u64::try_from(now_ms.saturating_sub(first.since_ms)).unwrap_or(0);
    let is_old = backoff.gives_up(Duration::from_millis(age), Duration::ZERO);
    let is_outdone = match first.about {
        // What comes later has the number as well, …
        About::Badge if first.room != RoomNo(0) => !others.is_empty(),
        // … but it says so of one that has risen only where it may rise by itself.
        About::Badge => {
            let mut same = others.iter().map(|other| (other.about, other.room));
            same.any(|same| same == (About::Badge, RoomNo(0)))
        }
        About::Event(_) if !first.highlight => {
            let same = others.iter().filter(|other| other.room == first.room);
            let same = same.filter(|other| matches!(other.about, About::Event(_)));
            same.count() >= OF_A_ROOM
        }
        _ => false,
    };
    Some(if is_old || is_outdone {
        Next::Pass(*first)
    } else {
        Next::Tell(*first)
    })
}

/// What of what waits is told next, and up to where it all is passed over before that.
pub fn choose(
    waiting: &[Push],
    mut passes: impl FnMut(&Push) -> bool,
    now_ms: i64,
    backoff: &Backoff,
) -> (Option<Pos>, Option<Push>) {
    let mut passed = None;
    for at in 0..waiting.len() {
        match next(&waiting[at..], now_ms, backoff) {
            Some(Next::Tell(push)) if !passes(&push) => return (passed, Some(push)),
            Some(Next::Tell(push) | Next::Pass(push)) => passed = Some(push.pos),
            None => break,
        }
    }
    (passed, None)
}

#[cfg(test)]
mod tests {
    use rhizome_storage::EventNo;

    use super::*;

    fn push(pos: i64, room: i64, about: About) -> Push {
        Push {
            pos: Pos(pos),
            room: RoomNo(room),
            about,
            highlight: false,
            since_ms: 0,
        }
    }

    fn told(mut waiting: Vec<Push>, now_ms: i64) -> Vec<i64> {
        let mut told = Vec::new();
        while let Some(next) = next(&waiting, now_ms, &Backoff::default()) {
            let first = waiting.remove(0);
            if next == Next::Tell(first) {
                told.push(first.pos.0);
            }
        }
        told
    }

    #[test]
    fn what_waited_too_long_is_passed_over() {
        let waiting = vec![push(1, 1, About::Event(EventNo(1)))];
        let day = 24 * 3_600_000;
        assert_eq!(told(waiting.clone(), day - 1), [1]);
        assert_eq!(told(waiting, day), [0; 0]);
    }

    #[test]
    fn of_a_busy_room_the_newest_are_told_and_all_highlights() {
        let mut waiting: Vec<Push> = (1..=9)
            .map(|pos| push(pos, 1, About::Event(EventNo(pos))))
            .collect();
        waiting[1].highlight = true;
        waiting.push(push(10, 2, About::Event(EventNo(10))));
        assert_eq!(told(waiting, 0), [2, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_number_alone_is_told_if_nothing_else_is() {
        let badge = |pos| push(pos, 1, About::Badge);
        let waiting = vec![badge(1), badge(2), push(3, 1, About::Invite), badge(4)];
        assert_eq!(told(waiting, 0), [3, 4]);
    }

    #[test]
    fn that_a_number_may_rise_by_itself_is_not_lost_in_what_comes_later() {
        let waiting = vec![
            push(1, 0, About::Badge),
            push(2, 0, About::Badge),
            push(3, 1, About::Event(EventNo(1))),
            push(4, 1, About::Badge),
        ];
        assert_eq!(told(waiting, 0), [2, 3, 4]);
    }

    #[test]
    fn all_that_is_passed_over_is_so_at_once() {
        let waiting: Vec<Push> = (1..=9)
            .map(|pos| push(pos, 1, About::Event(EventNo(pos))))
            .collect();
        let choose = |upto| {
            choose(
                &waiting,
                |push| push.pos <= Pos(upto),
                0,
                &Backoff::default(),
            )
        };
        assert_eq!(choose(0), (Some(Pos(4)), Some(waiting[4])));
        assert_eq!(choose(7), (Some(Pos(7)), Some(waiting[7])));
        assert_eq!(choose(9), (Some(Pos(9)), None));
        let few = &waiting[..5];
        let all = super::choose(few, |_| false, 0, &Backoff::default());
        assert_eq!(all, (None, Some(waiting[0])));
    }
}
