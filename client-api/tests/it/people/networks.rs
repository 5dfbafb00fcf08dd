//! Other networks, of which there are none without application services.

use serde_json::json;

use crate::harness::story;

#[tokio::test(flavor = "multi_thread")]
async fn without_application_services_there_are_no_networks() {
    story(async |server| {
        let ada = server.register("ada").await;
        let protocols = ada.read("/thirdparty/protocols").await;
        assert_eq!(protocols, json!({}));
        for path in [
            "/thirdparty/protocol/irc",
            "/thirdparty/location/irc?network=example&channel=%23matrix",
            "/thirdparty/location/irc",
            "/thirdparty/user/irc?nickname=ada",
            "/thirdparty/location?alias=%23room%3Ahere",
            "/thirdparty/user?userid=%40ada%3Ahere",
        ] {
            let (status, answer) = ada.get(path).await;
            assert_eq!(status, 404, "{path}: {answer}");
            assert_eq!(answer["errcode"], "M_NOT_FOUND", "{path}");
        }
        for path in ["/thirdparty/location?alias=x", "/thirdparty/user"] {
            let (status, answer) = ada.get(path).await;
            assert_eq!(status, 400, "{path}: {answer}");
        }
    })
    .await;
}
