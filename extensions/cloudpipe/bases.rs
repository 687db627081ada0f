//! What a provider's links begin with, and what they become: the way from a broker's addresses to standpipe's.

/// Rules for the links of one provider, tried in order.
#[derive(Clone, Debug)]
pub struct Bases {
    rules: Vec<Rule>,
    public_url: String,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Scheme and authority.
    origin: String,
    /// The path in front of what becomes ours.
    path: String,
    /// What stands behind the resource, where the path names one with a template.
    behind_resource: Option<String>,
    /// Our path in its place.
    to: String,
}

impl Bases {
    /// Links under a provider's `url`, which may have a place for the resource, become links under `public_url`.
    pub fn new(url: &str, public_url: &str) -> Self {
        Self { rules: vec![Rule::of(url)], public_url: public_url.to_owned() }
    }

    /// So do those under the endpoint that a mapping names.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Option<&str>) -> Self {
        self.rules.splice(0..0, endpoint.map(Rule::of));
        self
    }

    /// Links under the own URL of a resource lead to `/{resource}`, given as it stands in a path.
    #[must_use]
    pub fn with_resource(mut self, resource: &str, url: Option<&str>) -> Self {
        let own = url.map(|url| Rule { to: format!("/{resource}"), ..Rule::of(url) });
        self.rules.splice(0..0, own);
        self
    }

    /// The link as the caller should see it; `None` when it stays. Relative links stay relative.
    pub fn rewrite(&self, link: &str) -> Option<String> {
        self.rules.iter().find_map(|rule| match rule.behind_origin(link) {
            Some(path) => rule.inside(path).map(|path| format!("{}{path}", self.public_url)),
            // An absolute path is the broker's own, prefix included; relative ones stand on it.
            None => rule.inside(link).filter(|inside| link.starts_with('/') && inside != link),
        })
    }
}

impl Rule {
    fn of(url: &str) -> Self {
        let (fixed, behind) = match url.split_once("/{resource}") {
            Some((fixed, behind)) => (fixed, Some(behind.to_owned())),
            None => (url, None),
        };
        let (origin, path) = fixed.split_at(origin_length(fixed));
        Self {
            origin: origin.to_owned(),
            path: path.to_owned(),
            behind_resource: behind.filter(|behind| !behind.is_empty()),
            to: String::new(),
        }
    }

    /// The path of a link to this origin, which may leave out the scheme.
    fn behind_origin<'a>(&self, link: &'a str) -> Option<&'a str> {
        let bare = self.origin.split_once(':').map_or(self.origin.as_str(), |(_, bare)| bare);
        let origin = if link.starts_with("//") { bare } else { self.origin.as_str() };
        let start = link.get(..origin.len()).filter(|_| !origin.is_empty())?;
        let rest = link.get(origin.len()..)?;
        let ends = rest.is_empty() || rest.starts_with(['/', '?', '#']);
        (start.eq_ignore_ascii_case(origin) && ends).then_some(rest)
    }

    /// Our path for one of the broker's.
    fn inside(&self, path: &str) -> Option<String> {
        let ends = |rest: &&str| rest.is_empty() || rest.starts_with(['/', '?', '#']);
        let rest = path.strip_prefix(self.path.as_str()).filter(ends)?;
        let Some(behind) = &self.behind_resource else { return Some(format!("{}{rest}", self.to)) };
        let length = rest.get(1..)?.find(['/', '?', '#']).map_or(rest.len(), |at| at + 1);
        let (resource, rest) = rest.split_at(length);
        let rest = rest.strip_prefix(behind.as_str()).filter(ends)?;
        Some(format!("{}{resource}{rest}", self.to))
    }
}

/// The length of scheme and authority.
fn origin_length(url: &str) -> usize {
    let start = url.find("://").map_or(0, |at| at + 3);
    url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |slash| start + slash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(bases: &Bases, link: &str) -> String {
        bases.rewrite(link).unwrap_or_else(|| "-".to_owned())
    }

    #[test]
    fn an_absolute_path_loses_the_brokers_prefix() {
        let bases = Bases::new("http://broker/apps", "http://standpipe");
        assert_eq!(rewritten(&bases, "/apps/db/pipes/a"), "/db/pipes/a");
        assert_eq!(rewritten(&bases, "/db/pipes/a"), "-");
        assert_eq!(rewritten(&Bases::new("http://broker", "x"), "/db/pipes/a"), "-");
    }

    #[test]
    fn what_stands_behind_the_resource_goes_and_a_link_may_leave_out_its_scheme() {
        let bases = Bases::new("http://broker:1/t/{resource}/v1", "http://standpipe");
        assert_eq!(rewritten(&bases, "http://Broker:1/t/db/v1/pipes/a?x"), "http://standpipe/db/pipes/a?x");
        assert_eq!(rewritten(&bases, "//broker:1/t/db/v1"), "http://standpipe/db");
        assert_eq!(rewritten(&bases, "/t/db/v1/pipes/a"), "/db/pipes/a");
        for elsewhere in
            ["http://broker:1/t/db/v2/pipes", "http://broker:1/t", "http://broker:11/t/db/v1", "/t/db"]
        {
            assert_eq!(rewritten(&bases, elsewhere), "-", "{elsewhere}");
        }
    }

    #[test]
    fn a_resource_with_its_own_url_is_reached_by_its_name() {
        let bases = Bases::new("http://broker/t/{resource}", "http://standpipe");
        let bases = bases.with_resource("own", Some("http://broker/elsewhere/own"));
        assert_eq!(rewritten(&bases, "/elsewhere/own/pipes/a"), "/own/pipes/a");
        assert_eq!(rewritten(&bases, "http://broker/elsewhere/own/pipes/a"), "http://standpipe/own/pipes/a");
        assert_eq!(rewritten(&bases, "http://broker/t/db/pipes/a"), "http://standpipe/db/pipes/a");
        assert_eq!(rewritten(&bases, "http://broker/elsewhere/owner"), "-");
    }
}
