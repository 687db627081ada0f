//! The removal of settled operations.

use std::time::Duration;

use serde_json::Value;
use standpipe_api::{Change, State as _, Timestamp};

use super::super::records::{Progress, Side};
use super::house::{House, SETTINGS, bind, provision};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A broker with one operation of each kind on instances, all of them old, a young one, and an old one of a binding.
async fn house(operations: &str) -> House {
    let failing =
        SETTINGS.replace("create = { async = \"only\" }", "create = { simulate = { fail = 'no' } }");
    let house = House::with(&failing.replace("[bindings]", &format!("{operations}\n[bindings]"))).await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    house.expect(201, "PUT /service_instances/i/service_bindings/b", bind("sync")).await;
    house.expect(500, "PUT /service_instances/f", provision("only")).await;
    house.accepted("PUT /service_instances/p?accepts_incomplete=true", provision("async")).await;
    let job = house.memory.jobs().remove(0).id;
    house.memory.commit(vec![Change::Cancel(job)]).await.unwrap().unwrap();
    house.age(4 * DAY).await;
    house.expect(201, "PUT /service_instances/young", provision("sync")).await;
    house
}

/// What is left of the operations on instances after a day went by: their instances, and how they are.
async fn left(house: &House) -> Vec<(String, Progress)> {
    let now = Timestamp::now();
    house.broker.clean(Timestamp::from_millis(now.as_millis() - 86_400_000), now).await;
    let rows = house.rows(Side::Instances).await;
    let mut left: Vec<_> = rows.into_iter().map(|row| (row.subject.instance.0, row.progress)).collect();
    left.sort_by(|one, other| one.0.cmp(&other.0));
    left
}

fn row(instance: &str, progress: Progress) -> (String, Progress) {
    (instance.to_owned(), progress)
}

#[tokio::test]
async fn each_schedule_removes_what_it_names_and_never_what_is_in_progress() {
    use Progress::{Failed, Running, Succeeded};
    let all = [row("f", Failed), row("i", Succeeded), row("p", Running), row("young", Succeeded)];
    for (operations, gone) in [
        ("", &[][..]),
        ("operations = { cleanup_succeeded = '0 0 3 * * *' }", &["i"][..]),
        ("operations = { cleanup_failed = '0 0 3 * * *' }", &["f"][..]),
        ("operations = { cleanup_all = '0 0 3 * * *' }", &["f", "i"][..]),
        ("operations = { cleanup_all = '0 0 3 * * *', cleanup_age = '5d' }", &[][..]),
    ] {
        let house = house(operations).await;
        let expected: Vec<_> = all.iter().filter(|row| !gone.contains(&row.0.as_str())).cloned().collect();
        assert_eq!(left(&house).await, expected, "{operations}");
        assert_eq!(
            house.rows(Side::Bindings).await.len(),
            1,
            "{operations}: bindings have schedules of their own"
        );
        assert_eq!(house.ask("GET /service_instances/i", Value::Null).await.status, 200, "{operations}");
    }
}

#[tokio::test]
async fn bindings_are_cleaned_on_their_own() {
    let text = SETTINGS.replace("[bindings]", "[bindings]\noperations = { cleanup_all = '0 0 3 * * *' }");
    let house = House::with(&text).await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    house.expect(201, "PUT /service_instances/i/service_bindings/b", bind("sync")).await;
    house.age(4 * DAY).await;
    assert_eq!(left(&house).await.len(), 1);
    assert_eq!(house.rows(Side::Bindings).await.len(), 0);
}

#[tokio::test]
async fn with_the_last_operation_on_what_is_gone_nothing_is_remembered() {
    let house = House::with(
        &SETTINGS.replace("[bindings]", "operations = { cleanup_all = '0 0 3 * * *' }\n[bindings]"),
    )
    .await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    house.expect(200, "DELETE /service_instances/i?service_id=s&plan_id=sync", Value::Null).await;
    house.age(4 * DAY).await;
    left(&house).await;
    let keys = house.memory.list("", None, 100).await.unwrap();
    assert_eq!(keys.len(), 0, "{keys:?}");
}
