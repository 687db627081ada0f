//! The built-in broker does as the specification says, directly and through standpipe. What it answers has times and random
//! ids in it, so that verdicts are compared, and not bytes.

use super::cases::Suite;
use super::compare::verdicts;
use super::{at, in_front_of};
use crate::support::{House, LOGIN, Standpipe, password_hash};

const OFFERED: &str = r#"
[[provider]]
name = "db"
dialect = "osb"
[provider.osb_broker]
[provider.osb_broker.bindings]
credentials = { uri = "db://{{binding_id}}:{{password}}@db.example/{{instance_id}}" }
[[provider.osb_broker.services]]
id = "3d0f0d51-0001-4e31-9a0e-6f4f3a1c1b01"
name = "db"
description = "Keeps rows"
bindable = true
instances_retrievable = true
bindings_retrievable = true
plan_updateable = true
binding_rotatable = true
[[provider.osb_broker.services.plans]]
id = "3d0f0d51-0001-4e31-9a0e-6f4f3a1c1b11"
name = "small"
description = "At once"
maintenance_info = { version = "1.2.0" }
schemas.service_instance.create.parameters = { type = "object", properties = { fail = { type = "boolean" } } }
[provider.osb_broker.services.plans.instances]
create = { hook = { command = HOOK } }
[[provider.osb_broker.services.plans]]
id = "3d0f0d51-0001-4e31-9a0e-6f4f3a1c1b12"
name = "large"
description = "Takes its time"
maximum_polling_duration = 600
[provider.osb_broker.services.plans.instances]
create = { async = "only", hook = { command = HOOK }, simulate = { steps = [{ delay = "40ms" }] } }
update = { async = "only", hook = { command = HOOK }, simulate = { steps = [{ delay = "40ms" }] } }
delete = { async = "only", simulate = { steps = [{ delay = "40ms" }] } }
[provider.osb_broker.services.plans.bindings]
create = { async = "only", simulate = { steps = [{ delay = "40ms" }] } }
delete = { async = "only", simulate = { steps = [{ delay = "40ms" }] } }
[[provider.osb_broker.services]]
id = "3d0f0d51-0002-4e31-9a0e-6f4f3a1c1b02"
name = "mail"
description = "Carries letters"
bindable = true
[[provider.osb_broker.services.plans]]
id = "3d0f0d51-0002-4e31-9a0e-6f4f3a1c1b21"
name = "only"
description = "At once too"
[provider.osb_broker.services.plans.instances]
create = { hook = { command = HOOK } }
"#;

/// A hook that fails where the parameters ask for it.
const HOOK: &str = r#"["sh", "-c", '''case "$(cat)" in *'"fail":true'*) echo '{"error": "", "description": "as asked"}' ;; esac''']"#;

/// What it gets otherwise than a case wants it, and may: it polls only what it named itself, and forgets what is deleted.
const OTHERWISE: [(&str, &str); 4] = [
    ("polled until it has succeeded", "410 instead of [200]"),
    ("polled with the word deprovision", "404 instead of [200]"),
    ("with the word provision", "404 instead of [200]"),
    ("what a poll asks arrives as it was sent", "404 instead of [200]"),
];

/// A new one, to which operators log in.
fn broker() -> Standpipe {
    let house = House::new(&format!(
        "threads = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"basic\"]\n[[caller]]\nname = \"{}\"\npassword_hash = \"{}\"\n{}",
        LOGIN.0,
        password_hash(LOGIN.1),
        OFFERED.replace("HOOK", HOOK)
    ));
    house.run_osb_broker()
}

#[test]
fn our_own_broker_does_as_the_cases_say_also_through_standpipe() {
    let own = broker();
    let mut direct = at(&own, "");
    direct.login = LOGIN;
    let direct = Suite::run(direct, &[]);
    let otherwise = |case: &str, why: &str| OTHERWISE.iter().any(|it| case.contains(it.0) && why == it.1);
    for outcome in &direct.outcomes {
        let (case, plan) = (&outcome.case, &outcome.plan);
        let why = outcome.verdict.as_ref().err().filter(|why| !otherwise(case, why));
        assert_eq!(why, None, "{case} [{plan}]");
    }
    let behind = broker();
    let standpipe = in_front_of(&[("own", behind.address)], "");
    let through = Suite::run(at(&standpipe, ""), &[]);
    let found = verdicts(&direct, &through);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
