//! One `UpdateItem`, put together clause by clause. Every attribute goes by a placeholder: many plain words are reserved.

use serde_json::{Map, Value, json};

/// An update expression, its condition, and what they name.
#[derive(Debug, Default)]
pub(super) struct Change {
    sets: Vec<String>,
    adds: Vec<String>,
    removes: Vec<String>,
    conditions: Vec<String>,
    names: Map<String, Value>,
    values: Map<String, Value>,
}

impl Change {
    /// A placeholder for an attribute.
    pub(super) fn name(&mut self, attribute: &str) -> String {
        let known = self.names.iter().find(|(_, named)| named.as_str() == Some(attribute));
        if let Some((placeholder, _)) = known {
            return placeholder.clone();
        }
        let placeholder = format!("#n{}", self.names.len());
        self.names.insert(placeholder.clone(), attribute.into());
        placeholder
    }

    /// A placeholder for a number.
    pub(super) fn number(&mut self, number: impl Into<i128>) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), json!({ "N": number.into().to_string() }));
        placeholder
    }

    pub(super) fn set(&mut self, attribute: &str, number: u64) {
        let clause = format!("{} = {}", self.name(attribute), self.number(number));
        self.sets.push(clause);
    }

    /// Adds to an attribute that the condition knows to be there, or subtracts from it.
    pub(super) fn shift(&mut self, attribute: &str, sign: char, number: u64) {
        let name = self.name(attribute);
        let clause = format!("{name} = {name} {sign} {}", self.number(number));
        self.sets.push(clause);
    }

    /// Adds to an attribute; one that is not there counts as 0.
    pub(super) fn add(&mut self, attribute: &str, number: i64) {
        let clause = format!("{} {}", self.name(attribute), self.number(number));
        self.adds.push(clause);
    }

    pub(super) fn remove(&mut self, attribute: &str) {
        let clause = self.name(attribute);
        self.removes.push(clause);
    }

    /// `attribute` compared with a number.
    pub(super) fn compared(&mut self, attribute: &str, operator: &str, number: u64) -> String {
        format!("{} {operator} {}", self.name(attribute), self.number(number))
    }

    pub(super) fn absent(&mut self, attribute: &str) -> String {
        format!("attribute_not_exists({})", self.name(attribute))
    }

    pub(super) fn require(&mut self, condition: String) {
        self.conditions.push(condition);
    }

    pub(super) fn require_presence(&mut self, attribute: &str) {
        let condition = format!("attribute_exists({})", self.name(attribute));
        self.conditions.push(condition);
    }

    pub(super) fn require_either(&mut self, conditions: &[String]) {
        self.conditions.push(format!("({})", conditions.join(" OR ")));
    }

    /// The question as DynamoDB takes it.
    pub(super) fn question(self, table: &str, id: &str) -> Value {
        let clauses = [("SET", &self.sets), ("ADD", &self.adds), ("REMOVE", &self.removes)];
        let written = clauses.into_iter().filter(|(_, clauses)| !clauses.is_empty());
        let update: Vec<_> =
            written.map(|(verb, clauses)| format!("{verb} {}", clauses.join(", "))).collect();
        let mut question = json!({
            "TableName": table,
            "Key": { "id": { "S": id } },
            "UpdateExpression": update.join(" "),
            "ExpressionAttributeNames": self.names,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        });
        if let Some(question) = question.as_object_mut() {
            if !self.conditions.is_empty() {
                question.insert("ConditionExpression".to_owned(), self.conditions.join(" AND ").into());
            }
            if !self.values.is_empty() {
                question.insert("ExpressionAttributeValues".to_owned(), self.values.into());
            }
        }
        question
    }
}
