//! Names: what a kind is called, everywhere it is called something.
use api_meta::{GroupResource, GroupVersionKind, join_api_version};
use std::borrow::Cow;

pub type Text = Cow<'static, str>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short: Cow<'static, [Text]>,
    pub categories: Cow<'static, [Text]>,
    /// The kind of its lists, where that is not its own followed by `List`.
    pub list: Option<Text>,
}

impl Names {
    /// A built-in's names.
    pub const fn new(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str, singular: &'static str) -> Self {
        Self::with(group, version, kind, plural, singular, &[], &[])
    }
    /// With short names and categories, as `&[text("po")]` and `ALL`.
    pub const fn with(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
        short: &'static [Text],
        categories: &'static [Text],
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            singular: Cow::Borrowed(singular),
            short: Cow::Borrowed(short),
            categories: Cow::Borrowed(categories),
            list: None,
        }
    }
    pub fn api_version(&self) -> String {
        join_api_version(&self.group, &self.version)
    }
    pub fn list_kind(&self) -> String {
        self.list.as_deref().map_or_else(|| format!("{}List", self.kind), str::to_owned)
    }
    pub fn resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.plural)
    }
    pub fn kind(&self) -> GroupVersionKind {
        GroupVersionKind::new(&self.group, &self.version, &self.kind)
    }
}

/// A constant piece of text, for `short` and `categories`: `&[text("po")]`.
pub const fn text(text: &'static str) -> Text {
    Cow::Borrowed(text)
}

/// The category of `kubectl get all`.
pub const ALL: &[Text] = &[Cow::Borrowed("all")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceScope {
    Namespaced,
    Cluster,
}
