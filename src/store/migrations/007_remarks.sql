-- What an extension made of an answer, in a word.
ALTER TABLE audit ADD COLUMN remark TEXT;
