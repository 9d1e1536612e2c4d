//! What a kind is to the server: the Resource trait and its vocabulary.

mod column;
mod lookup;
mod names;
mod resource;
mod versions;

pub use column::{BuiltinCell, Cell, CellMaker, Column, Row, TableColumn, age, at_path, human_duration};
pub use lookup::Lookup;
pub use names::{ALL, Names, ResourceScope, Text, text};
pub use resource::{ALL_VERBS, AnyResource, Field, NameRule, Resource, SCALE, STATUS, Subresource, SubresourceKind, WriteContext, WrittenSchema, spec};
pub use versions::{Versions, WebhookConversion};
