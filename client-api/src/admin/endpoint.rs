//! How endpoints of this API are declared: neither the specification nor `ruma` has them.

/// Declares endpoints that are for administrators alone: a type for each, with its method and path.
macro_rules! endpoints {
    ($($(#[$about:meta])* $name:ident: $method:ident $path:literal;)*) => { $(
        $(#[$about])*
        pub struct $name;
        const _: () = {
            use rhizome_edge::AdministratorToken;
            ruma::metadata! {
                @for $name,
                method: $method,
                rate_limited: true,
                authentication: AdministratorToken,
                path: $path,
            }
        };
    )* };
}
pub(super) use endpoints;
