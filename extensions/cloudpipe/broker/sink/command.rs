//! A command that configures an app: it is told everything, on standard input.

use async_trait::async_trait;
use serde_json::{Value, json};
use standpipe_api::{Error, Result};

use super::Sink;
use super::names::Names;
use crate::outside::Program;

/// The sink. The command reads `{"resource", "variables", "gone", "pipes"}`: names and values to set, names to unset,
/// and the pipes they come from.
pub(super) struct Configurator {
    program: Program,
    names: Names,
}

impl Configurator {
    /// Tells this command these names.
    pub(super) fn new(program: Program, names: Names) -> Self {
        Self { program, names }
    }
}

#[async_trait]
impl Sink for Configurator {
    fn check(&self, pipes: &[Value]) -> Result<()> {
        self.names(pipes).map(drop)
    }

    fn names(&self, pipes: &[Value]) -> Result<Vec<String>> {
        Ok(self.names.config(pipes)?.into_keys().collect())
    }

    async fn apply(&self, resource: &str, pipes: &[Value], gone: &[String]) -> Result<()> {
        let variables = self.names.config(pipes)?;
        let told = json!({"resource": resource, "variables": variables, "gone": gone, "pipes": pipes});
        let ran = self.program.run(told.to_string().as_bytes(), &[("STANDPIPE_RESOURCE", resource)]).await;
        ran.map(drop)
            .map_err(|error| Error::internal(format!("the sink of {resource} failed")).because(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_command_is_told_names_to_set_and_names_to_unset() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told.json");
        let words = ["sh", "-c", "cat > \"$0\"", file.to_str().unwrap()].map(str::to_owned).to_vec();
        let program = Program { words, limit: Duration::from_secs(20), longest: 100 };
        let sink = Configurator::new(program, Names::All);
        let pipes = [json!({"id": "db", "other": {"data": {"URI": "x"}}})];
        assert_eq!(sink.names(&pipes).unwrap(), ["PIPE_DB_OTHER_URI"]);
        sink.apply("web", &pipes, &["OLD".to_owned()]).await.unwrap();
        let told: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(told["variables"], json!({"PIPE_DB_OTHER_URI": "x"}));
        assert_eq!((&told["gone"], &told["resource"]), (&json!(["OLD"]), &json!("web")));
        let words = vec!["false".to_owned()];
        let failing = Configurator::new(Program { words, ..sink.program.clone() }, Names::All);
        assert!(failing.apply("web", &pipes, &[]).await.is_err());
    }
}
