//! A kind of fact whose rows are its fields.

/// Makes the struct of a fact, `Stored` for it, and `put`, which writes a group's facts. Of each field it is
/// said which column it is; those under `key` name a row, of which the last stays. Without `key`, each
/// fact is a row of its own. The column `pos` comes by itself.
///
/// ```text
/// table! {
///     /// A user's mood changes.
///     pub struct Mood in mood {
///         key {
///             /// Whose.
///             user: UserNo = user_no,
///         }
///         /// What they say.
///         text: String = mood,
///     }
/// }
/// ```
macro_rules! table {
    ($(#[$meta:meta])* pub struct $name:ident in $table:ident {
        key {
            $(#[$first_doc:meta])* $first:ident: $first_type:ty = $first_column:ident,
            $($(#[$key_doc:meta])* $key:ident: $key_type:ty = $key_column:ident,)*
        }
        $($(#[$doc:meta])* $field:ident: $type:ty = $column:ident,)*
    }) => {
        $crate::facts::table::table! {
            @made $(#[$meta])* $name in $table {
                $(#[$first_doc])* $first: $first_type = $first_column,
                $($(#[$key_doc])* $key: $key_type = $key_column,)*
                $($(#[$doc])* $field: $type = $column,)*
            }
            rows |facts| $crate::facts::last_of_each(
                facts,
                |fact: &Self| (fact.$first.clone(), $(fact.$key.clone(),)*),
                Self::row,
            );
            conflict concat!(
                " ON CONFLICT (", stringify!($first_column), $(", ", stringify!($key_column),)* ") DO UPDATE SET ",
                $(stringify!($column), " = excluded.", stringify!($column), ", ",)* "pos = excluded.pos"
            );
        }
    };
    ($(#[$meta:meta])* pub struct $name:ident in $table:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $column:ident,)*
    }) => {
        $crate::facts::table::table! {
            @made $(#[$meta])* $name in $table { $($(#[$doc])* $field: $type = $column,)* }
            rows |facts| facts.iter().map(|(pos, fact)| Self::row(*pos, fact)).collect::<Vec<_>>();
            conflict "";
        }
    };
    (@made $(#[$meta:meta])* $name:ident in $table:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $column:ident,)*
    } rows |$facts:ident| $rows:expr; conflict $conflict:expr;) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $crate::facts::Stored for $name {
            const TABLE: &'static str = stringify!($table);
            const COLUMNS: &'static str = concat!("pos", $(", ", stringify!($column)),*);

            fn read(row: &$crate::engine::sql::ReadRow) -> $crate::Result<Self> {
                use $crate::engine::sql::Columns as _;
                Ok(Self { $($field: row.get(stringify!($column))?),* })
            }
        }

        const _: () = {
            $crate::engine::sql::rows! {
                pub(crate) struct Row<'a> {
                    $($column: &'a $type,)*
                    pos: i64,
                }
            }

            impl $name {
                fn row(pos: i64, fact: &Self) -> Row<'_> {
                    Row { $($column: &fact.$field,)* pos }
                }

                /// The rows of these facts.
                fn put(
                    $facts: &[(i64, &Self)],
                    statements: &mut $crate::engine::sql::statement::Statements,
                ) -> $crate::Result<()> {
                    statements.after(
                        concat!(
                            "INSERT INTO ", stringify!($table), " (", $(stringify!($column), ", ",)* "pos) SELECT ",
                            $(stringify!($column), ", ",)* "pos + $2 FROM ROWS($1) AS x WHERE true", $conflict
                        ),
                        &$rows,
                    )
                }
            }
        };
    };
}
pub(super) use table;
