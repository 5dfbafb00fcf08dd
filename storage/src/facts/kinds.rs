//! The one macro that makes of a list of kinds what concerns all of them.

/// `logged` kinds get variants of [`EntryKind`](crate::EntryKind), `plain` ones don't; all are variants of
/// [`Fact`](crate::Fact). A line is `Variant = module: Type`,
/// followed for a logged kind by what readers of the log get (`as Entry`).
macro_rules! kinds {
    (
        logged { $($(#[$doc:meta])* $name:ident = $module:ident: $type:ty as $entry:ty,)* }
        plain { $($(#[$plain_doc:meta])* $plain_name:ident = $plain_module:ident: $plain_type:ty,)* }
    ) => {
        /// What isn't a room's event or state.
        #[derive(Debug, Clone)]
        pub enum Fact {
            $($(#[$doc])* $name($type),)*
            $($(#[$plain_doc])* $plain_name($plain_type),)*
        }

        $(impl From<$type> for Fact {
            fn from(fact: $type) -> Self {
                Self::$name(fact)
            }
        })*
        $(impl From<$plain_type> for Fact {
            fn from(fact: $plain_type) -> Self {
                Self::$plain_name(fact)
            }
        })*

        /// What happened at a position of the log.
        #[derive(Debug, Clone)]
        pub enum EntryKind {
            /// An accepted live event.
            Event($crate::facts::entry::LiveEvent),
            /// A change of a room's current state.
            State($crate::facts::entry::StateChanged),
            /// An event got the content that it had come without.
            Restored($crate::facts::entry::EventRestored),
            $($(#[$doc])* $name(std::sync::Arc<Logged<$entry>>),)*
        }

        /// What the facts of a group of write sets are decided on, by kind.
        #[derive(Debug, Default)]
        pub(crate) struct FactsBasis {
            $($module: <$type as Kind>::Basis,)*
            $($plain_module: <$plain_type as Kind>::Basis,)*
        }

        /// The facts of a group with their offsets, by kind.
        #[derive(Default)]
        struct Sorted<'a> {
            $($module: Vec<(i64, &'a $type)>,)*
            $($plain_module: Vec<(i64, &'a $plain_type)>,)*
        }

        impl<'a> Sorted<'a> {
            fn add(&mut self, offset: i64, fact: &'a Fact) {
                match fact {
                    $(Fact::$name(fact) => self.$module.push((offset, fact)),)*
                    $(Fact::$plain_name(fact) => self.$plain_module.push((offset, fact)),)*
                }
            }
        }

        impl FactsBasis {
            /// Reads what the facts are decided on. Call with the users locked.
            pub(crate) async fn look_up<'a>(
                tx: &mut Tx,
                facts: impl Iterator<Item = &'a Fact>,
            ) -> Result<Self, Trouble> {
                let mut sorted = Sorted::default();
                for fact in facts {
                    sorted.add(0, fact);
                }
                let mut held = Self::default();
                $(if !sorted.$module.is_empty() {
                    let facts: Vec<_> = sorted.$module.iter().map(|(_, fact)| *fact).collect();
                    <$type as Kind>::look_up(&mut held.$module, tx, &facts).await?;
                })*
                $(if !sorted.$plain_module.is_empty() {
                    let facts: Vec<_> = sorted.$plain_module.iter().map(|(_, fact)| *fact).collect();
                    <$plain_type as Kind>::look_up(&mut held.$plain_module, tx, &facts).await?;
                })*
                Ok(held)
            }

            /// `None` if the fact can be written.
            pub(crate) fn check(&self, fact: &Fact, retried: bool) -> Option<Decision> {
                match fact {
                    $(Fact::$name(fact) => fact.check(&self.$module, retried),)*
                    $(Fact::$plain_name(fact) => fact.check(&self.$plain_module, retried),)*
                }
            }

            /// Its write set was accepted. Whether it says anything.
            pub(crate) fn apply(&mut self, fact: &Fact) -> bool {
                match fact {
                    $(Fact::$name(fact) => fact.apply(&mut self.$module),)*
                    $(Fact::$plain_name(fact) => fact.apply(&mut self.$plain_module),)*
                }
            }

            /// The rows of the group's facts: those with positions at their offsets, and all others.
            pub(crate) fn write<'a>(
                &self,
                facts: impl Iterator<Item = (i64, &'a Fact)>,
                statements: &mut Statements,
            ) -> Result<()> {
                let mut sorted = Sorted::default();
                for (offset, fact) in facts {
                    sorted.add(offset, fact);
                }
                $(if !sorted.$module.is_empty() {
                    <$type as Kind>::write(&sorted.$module, &self.$module, statements)?;
                })*
                $(if !sorted.$plain_module.is_empty() {
                    <$plain_type as Kind>::write(&sorted.$plain_module, &self.$plain_module, statements)?;
                })*
                Ok(())
            }
        }

        impl Fact {
            /// Whether it gets a position in the log.
            pub(crate) fn has_position(&self) -> bool {
                match self {
                    $(Self::$name(_) => true,)*
                    $(Self::$plain_name(_) => false,)*
                }
            }

            pub(crate) fn locks(&self) -> Option<UserNo> {
                match self {
                    $(Self::$name(fact) => fact.locks(),)*
                    $(Self::$plain_name(fact) => fact.locks(),)*
                }
            }

            pub(crate) fn room_row(&self) -> Option<RoomNo> {
                match self {
                    $(Self::$name(fact) => fact.room_row(),)*
                    $(Self::$plain_name(fact) => fact.room_row(),)*
                }
            }

            pub(crate) fn decided_on(&self) -> Option<(RoomNo, Option<i64>)> {
                match self {
                    $(Self::$name(fact) => fact.decided_on(),)*
                    $(Self::$plain_name(fact) => fact.decided_on(),)*
                }
            }

            pub(crate) fn change_room(&self, head: &mut RoomHead) {
                match self {
                    $(Self::$name(fact) => fact.change_room(head),)*
                    $(Self::$plain_name(fact) => fact.change_room(head),)*
                }
            }

            pub(crate) fn outside_membership(&self) -> Option<(UserNo, RoomNo, Option<Membership>)> {
                match self {
                    $(Self::$name(fact) => fact.outside_membership(),)*
                    $(Self::$plain_name(fact) => fact.outside_membership(),)*
                }
            }

            /// What readers of the log get at `pos`; `None` of a kind without positions.
            pub(crate) fn entry(&self, pos: Pos) -> Option<EntryKind> {
                Some(match self {
                    $(Self::$name(fact) => EntryKind::$name(Logged::new(pos, fact.entry())),)*
                    $(Self::$plain_name(_) => return None,)*
                })
            }
        }

        impl EntryKind {
            /// Whom it concerns.
            pub fn audience(&self) -> Audience {
                match self {
                    Self::Event(event) => event.audience(),
                    Self::State(state) => state.audience(),
                    Self::Restored(_) => Audience::Nobody,
                    $(Self::$name(logged) => <$type as LoggedKind>::audience(&logged.fact),)*
                }
            }

            /// The room that it belongs to, if it belongs to one.
            pub fn room(&self) -> Option<RoomNo> {
                match self {
                    Self::Event(event) => Some(event.room),
                    Self::State(state) => Some(state.room),
                    // Whom it concerns in the room, a change of its state tells.
                    Self::Restored(_) => None,
                    $(Self::$name(logged) => <$type as LoggedKind>::room(&logged.fact),)*
                }
            }

            /// Forgets what a fact makes stale of the caches. What events and state make stale, others say.
            pub(crate) fn forget_fact(&self, store: &Store) {
                match self {
                    Self::Event(_) | Self::State(_) | Self::Restored(_) => {}
                    $(Self::$name(logged) => <$type as LoggedKind>::forget(&logged.fact, store),)*
                }
            }

            /// About how many bytes it holds in memory beside its own size.
            pub(crate) fn weight(&self) -> usize {
                match self {
                    Self::Event(event) => event.weight(),
                    Self::State(_) | Self::Restored(_) => 0,
                    $(Self::$name(logged) => <$type as LoggedKind>::weight(&logged.fact),)*
                }
            }
        }

        /// The tables of the kinds that have positions. A kind's place here is its number in [`at`].
        pub(crate) const TABLES: &[&str] = &[$(<<$type as LoggedKind>::Entry as Stored>::TABLE),*];

        /// Those of which the rows only tell what has happened.
        const TELLING: &[bool] = &[$(<$type as LoggedKind>::TELLS),*];

        /// How each kind is read back at positions.
        static READS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
            vec![$({
                let (table, columns) = (
                    <<$type as LoggedKind>::Entry as Stored>::TABLE,
                    <<$type as LoggedKind>::Entry as Stored>::COLUMNS,
                );
                format!("SELECT {columns} FROM {table} WHERE pos IN NUMBERS($1)")
            }),*]
        });

        /// Calls a macro with the types of the kinds that have positions.
        #[cfg(test)]
        macro_rules! each_logged_kind {
            ($each:ident) => {
                $($each!($type);)*
            };
        }
        #[cfg(test)]
        pub(crate) use each_logged_kind;

        /// What stands at these positions of the kind with this number. What has moved on since isn't there
        /// any more.
        pub(crate) async fn at(
            store: &Store,
            kind: usize,
            positions: &[Pos],
        ) -> Result<Vec<(Pos, EntryKind)>> {
            let unknown = || crate::Error::broken(format!("log entries of kind {kind}"));
            let read = READS.get(kind).ok_or_else(unknown)?;
            let rows = store.sql(read).numbers(positions.iter().copied());
            let rows = store.rows(rows).await?;
            let mut number = 0..;
            $(if number.next() == Some(kind) {
                let logged = rows.iter().map(|row| {
                    let logged = Logged::<$entry>::read(row)?;
                    Ok((logged.pos, EntryKind::$name(logged)))
                });
                return logged.collect();
            })*
            Err(unknown())
        }
    };
}
pub(super) use kinds;
