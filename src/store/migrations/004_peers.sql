-- Which peer gave a mapping; NULL for what was not injected.
ALTER TABLE resource_mapping ADD COLUMN peer TEXT;
ALTER TABLE token_mapping ADD COLUMN peer TEXT;
-- Listing and revoking what one peer gave, in key order.
CREATE INDEX resource_mapping_by_peer ON resource_mapping (peer) WHERE peer IS NOT NULL;
CREATE INDEX token_mapping_by_peer ON token_mapping (peer) WHERE peer IS NOT NULL;
