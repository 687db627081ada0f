//! Who may not come in.

use super::super::platform::Login;
use super::{Suite, contract};

pub fn cases(suite: &mut Suite) {
    let variants = [
        ("without a login", Login::Nobody),
        ("with a wrong user", Login::WrongUser),
        ("with a wrong password", Login::WrongPassword),
    ];
    for (route, ask) in contract::routes().into_iter().filter(|route| route.0 != "PATCH instance") {
        for (variant, login) in variants {
            suite.once(format!("OK {route} should reject requests {variant} with 401"), |talk| {
                talk.ask(&ask.clone().login(login)).says(401)
            });
        }
    }
}
