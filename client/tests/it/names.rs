//! Calls by name, through the service's directory.

use postroom_client::{CallError, Code};
use serde::Serialize;

use crate::support::{PROGRAM, Parcel, Peer, connect};

#[derive(Serialize)]
struct Description {
    programs: [Program; 1],
}

#[derive(Serialize)]
struct Program {
    name: &'static str,
    number: u32,
    version: u32,
    procedures: [Procedure; 2],
    something_new: bool,
}

#[derive(Serialize)]
struct Procedure {
    number: i32,
    name: &'static str,
}

async fn describe(peer: &mut Peer) {
    let (header, _) = peer.call().await;
    assert_eq!((header.program, header.procedure), (0x6469_7265, 2));
    let procedures = [Procedure { number: 1, name: "echo" }, Procedure { number: 2, name: "mirror" }];
    let program = Program { name: "echo", number: PROGRAM, version: 4, procedures, something_new: true };
    peer.reply(&header, &Description { programs: [program] }).await;
}

#[tokio::test]
async fn a_name_is_looked_up_once() {
    let (client, mut peer, _door) = connect().await;
    let calls = async {
        for id in 0..3 {
            assert_eq!(client.call::<Parcel>("echo.mirror", &Parcel::new(id)).await.unwrap(), Parcel::new(id));
        }
    };
    tokio::join!(calls, async {
        describe(&mut peer).await;
        for _ in 0..3 {
            let received = peer.call().await;
            assert_eq!((received.0.program, received.0.version, received.0.procedure), (PROGRAM, 4, 2));
            peer.echo(&received).await;
        }
    });
}

#[tokio::test]
async fn an_unknown_name_is_told_the_nearest() {
    let (client, mut peer, _door) = connect().await;
    let (result, ()) = tokio::join!(client.call::<()>("echo.ecco", &1), describe(&mut peer));
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::Refused(_)) && error.code() == Some(&Code::UNKNOWN_PROCEDURE), "{error}");
    assert!(error.to_string().contains("did you mean \"echo\"?"), "{error}");
}
