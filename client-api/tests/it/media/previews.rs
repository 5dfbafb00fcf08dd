//! Previews of links.

use serde_json::{Value, json};

use super::world::{each, each_with};
use crate::harness::esc;

const PATHS: [&str; 2] = [
    "/_matrix/client/v1/media/preview_url",
    "/_matrix/media/v3/preview_url",
];

#[tokio::test]
async fn a_link_is_told_of() {
    each(async |world| {
        let ada = world.register("ada").await;
        let link = "https://elsewhere.test/a?b=c&d=ä";
        for path in PATHS {
            let path = format!("{path}?url={}", esc(link));
            let told = world.get(&ada, &path).await.ok();
            let expected = json!({ "og:title": link, "og:locale": null, "for": ada.id });
            assert_eq!(told, expected);
            let german = [("accept-language", "de, en;q=0.5")];
            let dated = format!("{path}&ts=1510610716656");
            let told = world.get_with(&ada, &dated, &german).await.ok();
            assert_eq!(told["og:locale"], "de, en;q=0.5");
            world.anybody(&path).await.fails(401, "M_MISSING_TOKEN");
        }
        let nothing = world.get(&ada, &format!("{}?url=nothing", PATHS[0])).await;
        nothing.fails(502, "M_UNKNOWN");
        let without = world.get(&ada, PATHS[0]).await;
        without.fails(400, "M_MISSING_PARAM");
        let odd = format!("{}?url=x&ts=soon", PATHS[0]);
        assert_ne!(world.get(&ada, &odd).await.body["errcode"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn where_links_are_not_visited_there_is_no_such_endpoint() {
    each_with(
        |settings| settings.previews = false,
        async |world| {
            let ada = world.register("ada").await;
            for path in PATHS {
                let path = format!("{path}?url=x");
                world.get(&ada, &path).await.fails(404, "M_UNRECOGNIZED");
            }
        },
    )
    .await;
}
