//! A graph as rows of attributes, which the GraphML and GEXF writers turn into XML.

use std::fmt::Display;

/// Type of an attribute: its name in GraphML, then in GEXF.
pub(crate) struct Type(pub(super) &'static str, pub(super) &'static str);

impl Type {
    pub(crate) const TEXT: Self = Self("string", "string");
    pub(crate) const INTEGER: Self = Self("int", "integer");
    pub(crate) const LONG: Self = Self("long", "long");
    pub(crate) const REAL: Self = Self("double", "double");
    pub(crate) const BOOLEAN: Self = Self("boolean", "boolean");
}

/// Name and type of an attribute.
pub(crate) type Column = (&'static str, Type);

/// A node, or an edge where `ends` is given, with the values of its attributes.
pub(crate) struct Row {
    /// Unique among nodes, or among edges; `None` for an edge without one.
    pub(crate) id: Option<String>,
    /// Ids of the source and the target.
    pub(crate) ends: Option<(String, String)>,
    /// Attribute names and values, in any order. The label of a node and the weight of an edge are among them.
    pub(crate) values: Vec<(&'static str, String)>,
}

impl Row {
    pub(crate) fn node(id: impl Display) -> Self {
        Self {
            id: Some(id.to_string()),
            ends: None,
            values: Vec::new(),
        }
    }

    pub(crate) fn edge(source: impl Display, target: impl Display) -> Self {
        Self {
            id: None,
            ends: Some((source.to_string(), target.to_string())),
            values: Vec::new(),
        }
    }

    /// Add the value of an attribute.
    pub(crate) fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.values.push((name, value.to_string()));
        self
    }

    /// The value of an attribute, where this row has it.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter();
        let found = values.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What GraphML and GEXF declare before the rows.
pub(crate) struct Tables {
    /// Name of the graph.
    pub(crate) name: &'static str,
    /// Whether GraphML gives the address of its XML schema.
    pub(crate) schema: bool,
    pub(crate) nodes: Vec<Column>,
    pub(crate) edges: Vec<Column>,
}
