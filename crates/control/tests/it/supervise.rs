//! Pausing and resuming, without a broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chassis::{Fenced, Stop};
use control::Control;
use schemas::{Desired, ServiceState};
use testkit::eventually;

use crate::LIMIT;

async fn reaches(control: &Control, state: ServiceState) {
    eventually(LIMIT, || async {
        let now = control.status().state;
        if now == state {
            Ok(())
        } else {
            Err(format!("{now:?}, not {state:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn pause_lets_the_work_finish_what_it_holds_and_resume_starts_it_again() {
    let (control, stop) = (Control::detached(), Stop::new());
    let (begun, finished) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let supervised = tokio::spawn({
        let (control, stop, begun, finished) =
            (control.clone(), stop.clone(), begun.clone(), finished.clone());
        async move {
            let work = |stop: Stop| {
                let (begun, finished) = (begun.clone(), finished.clone());
                async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    stop.cancelled().await;
                    tokio::task::yield_now().await;
                    finished.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            };
            control.supervise(stop, work).await
        }
    });
    let counts = || (begun.load(Ordering::SeqCst), finished.load(Ordering::SeqCst));
    eventually(LIMIT, || async {
        if counts() == (1, 0) {
            Ok(())
        } else {
            Err(format!("{:?}", counts()))
        }
    })
    .await;
    control.command(Desired::Paused);
    reaches(&control, ServiceState::Paused).await;
    assert_eq!(counts(), (1, 1));
    control.command(Desired::Running);
    eventually(LIMIT, || async {
        if counts() == (2, 1) {
            Ok(())
        } else {
            Err(format!("{:?}", counts()))
        }
    })
    .await;
    reaches(&control, ServiceState::Running).await;
    stop.cancel();
    tokio::time::timeout(LIMIT, supervised)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(counts(), (2, 2));
}

#[tokio::test]
async fn paused_service_can_be_stopped() {
    let (control, stop) = (Control::detached(), Stop::new());
    control.command(Desired::Paused);
    let stopping = async {
        reaches(&control, ServiceState::Paused).await;
        stop.cancel();
    };
    let never = |_| async { panic!("paused work must not run") };
    let (ended, ()) = tokio::join!(control.supervise(stop.clone(), never), stopping);
    ended.unwrap();
}

#[tokio::test]
async fn failure_of_the_work_is_the_supervisions_and_fencing_is_marked() {
    let control = Control::detached();
    let failed = control
        .supervise(Stop::new(), |_| async { anyhow::bail!("no more") })
        .await
        .unwrap_err();
    assert!(failed.downcast_ref::<Fenced>().is_none());
    let fenced = || async {
        let error = broker::Error::Fenced {
            transactional_id: "link".into(),
        };
        Err(anyhow::Error::new(error).context("cannot carry"))
    };
    let error = control.supervise(Stop::new(), |_| fenced()).await.unwrap_err();
    assert!(error.downcast_ref::<Fenced>().is_some());
}

#[tokio::test]
async fn work_that_ends_because_the_broker_is_away_begins_anew() {
    let (control, stop) = (Control::detached(), Stop::new());
    let begun = AtomicU32::new(0);
    let work = |stop: Stop| {
        let times = begun.fetch_add(1, Ordering::SeqCst);
        async move {
            if times == 0 {
                let away = broker::Error::Unreachable {
                    servers: "127.0.0.1:1".into(),
                    source: "nobody is there".into(),
                };
                return Err(anyhow::Error::new(away).context("cannot read what is there"));
            }
            stop.cancelled().await;
            Ok(())
        }
    };
    let watching = async {
        reaches(&control, ServiceState::Waiting).await;
        let told = control.status();
        assert!(told.last_error.unwrap().contains("cannot read what is there"));
        reaches(&control, ServiceState::Running).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(control.supervise(stop.clone(), work), watching);
    ended.unwrap();
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}
