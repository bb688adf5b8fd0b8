"""The paper's knowledge at training time: key words and objects of a record, and what they weigh."""
