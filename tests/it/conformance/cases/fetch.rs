//! An instance and a binding are read.

use super::super::platform::{Ask, Login};
use super::steps::{binding, bound, ids, instance, provisioned, wanted};
use super::{Offer, Suite};

fn retrievable(offer: &Offer) -> bool {
    offer.says("instances_retrievable")
}

fn bindings_retrievable(offer: &Offer) -> bool {
    offer.says("bindings_retrievable")
}

pub fn cases(suite: &mut Suite) {
    of_instances(suite);
    of_bindings(suite);
}

fn of_instances(suite: &mut Suite) {
    suite.each("OC retrieve instance: 412 without a version", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&Ask::new("GET", instance(&id)).version(None)).says(412)
    });
    suite.each("OC retrieve instance: 401 without a login", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&Ask::new("GET", instance(&id)).login(Login::Nobody)).says(401)
    });
    suite.each_where("OC retrieve instance: 200", retrievable, |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&Ask::new("GET", instance(&id)));
        reply.is(&[200])?;
        let hinted = talk.ask(&Ask::new("GET", format!("{}?{}", instance(&id), ids(offer))));
        hinted.is(&[200])?;
        let said = (reply.text("service_id"), reply.text("plan_id"));
        let wanted = (offer.service_id().to_owned(), offer.plan_id().to_owned());
        (said == wanted).then_some(()).ok_or_else(|| format!("{said:?}"))
    });
    suite.each(
        "OK should return 4XX when trying to retrieve a non existing service instance",
        |talk, offer| {
            let nobody = instance(&talk.id("nobody"));
            talk.ask(&Ask::new("GET", format!("{nobody}?{}", ids(offer)))).is_refused()
        },
    );
    suite.once("OK should return 4XX when trying to retrieve what nobody has, without ids", |talk| {
        talk.ask(&Ask::new("GET", instance(&talk.id("nobody")))).is_refused()
    });
    suite.each("spec: an instance that is not there yet is not found", |talk, offer| {
        let id = talk.id("instance");
        let put = Ask::new("PUT", instance(&id) + "?accepts_incomplete=true").body(&wanted(offer));
        let reply = talk.ask(&put);
        let found = talk.ask(&Ask::new("GET", instance(&id)));
        if reply.status == 202 { found.is_refused() } else { Ok(()) }
    });
    suite.each("what is not retrievable answers as it does", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&Ask::new("GET", instance(&id)));
        Ok(())
    });
}

fn of_bindings(suite: &mut Suite) {
    suite.each("OC retrieve binding: 412 without a version", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        talk.ask(&Ask::new("GET", binding(&id, &name)).version(None)).says(412)
    });
    suite.each("OC retrieve binding: 401 without a login", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        talk.ask(&Ask::new("GET", binding(&id, &name)).login(Login::Nobody)).says(401)
    });
    suite.each_where("OC retrieve binding: 200", bindings_retrievable, |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        talk.ask(&Ask::new("GET", binding(&id, &name))).is(&[200])?;
        let reply = talk.ask(&Ask::new("GET", format!("{}?{}", binding(&id, &name), ids(offer))));
        reply.is(&[200])?;
        reply.json()["credentials"].is_object().then_some(()).ok_or_else(|| "no credentials".to_owned())
    });
    suite.each("OK fetch binding: 4XX when it does not exist", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&Ask::new("GET", binding(&id, &talk.id("nobody")))).is_refused()
    });
}
