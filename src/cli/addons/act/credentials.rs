//! Credentials on their way to the app, and out of its env file again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Map, Value, json};
use standpipe_extensions::env_file;

use super::super::{Environment, environment};
use super::{Addon, Done, Session, part};

impl Session<'_> {
    /// Hands an add-on's credentials to the app.
    pub(super) async fn give(&mut self, addon: &Addon, environment: &Environment) -> Done {
        let file = environment.env_file.clone().or_else(|| self.place.env_file.clone());
        if file.is_none() && !environment.print_env {
            return Ok(());
        }
        if !addon.bindable {
            let text = format!("{}:{} cannot be bound: it has no credentials", addon.name, addon.plan);
            return if self.json { Ok(()) } else { self.say(&text) };
        }
        let target = format!("{}/credentials", self.path(&addon.name)?);
        let (_, answer) = self.client.ask(Method::GET, &target, None).await?;
        let credentials: Map<String, Value> = part(&answer, "credentials")?;
        if self.json && environment.print_env {
            self.print_json(&json!({ "credentials": credentials }))?;
        }
        if file.is_none() && self.json {
            return Ok(());
        }
        let names = environment::names(&addon.name, &credentials)?;
        if let Some(file) = file {
            let label = self.label(&addon.name)?;
            env_file::write(&file, &label, &names).map_err(|error| unwritable(&file, &error))?;
        }
        if environment.print_env && !self.json {
            for (name, value) in &names {
                self.say(&format!("{name}={}", env_file::quote(value)))?;
            }
        }
        Ok(())
    }

    /// Takes an add-on's credentials out of an env file; whether there were any.
    pub(super) fn take_out(&self, name: &str, file: &Path) -> Done<bool> {
        env_file::write(file, &self.label(name)?, &BTreeMap::new()).map_err(|error| unwritable(file, &error))
    }

    /// Removes what an interrupted command or another machine left of an add-on that is gone; `text` says that it is.
    pub(super) fn leftover(&mut self, name: &str, file: Option<PathBuf>, text: String) -> Done {
        let Some(file) = file else { return Err(text) };
        if !self.take_out(name, &file)? {
            return Err(text);
        }
        if self.json {
            return self.print_json(&json!({}));
        }
        let whose = self.whose()?;
        self.say(&format!(
            "{name} is not added to {whose}; its credentials are taken out of {}",
            file.display()
        ))
    }

    /// Names the add-on's block in an env file.
    fn label(&self, name: &str) -> Done<String> {
        Ok(format!("addon {name} of {}", self.whose()?))
    }
}

fn unwritable(file: &Path, error: &std::io::Error) -> String {
    format!("cannot write the env file {}: {error}", file.display())
}
