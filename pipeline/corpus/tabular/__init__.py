"""Tables: what the formats of columns share, from the types of Arrow to the rows of a record batch."""
