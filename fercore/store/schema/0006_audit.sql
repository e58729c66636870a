-- The audit: what was measured on an image, which images look alike, and findings with a life.

-- One row an image and measure; a newer method replaces it. mean and sd stand with the image itself.
CREATE TABLE facts.measure (image_id VARCHAR, name VARCHAR, value DOUBLE, method VARCHAR);
-- Pairs of different images above a loose floor of similarity (0-1), and the images that were compared with all others.
CREATE TABLE facts.near_pair (image_a VARCHAR, image_b VARCHAR, similarity DOUBLE, mirrored BOOLEAN, method VARCHAR);
CREATE TABLE facts.compared (image_id VARCHAR, method VARCHAR);
-- Append-only; the last bound of a kind counts.
CREATE TABLE facts.audit_bound (kind VARCHAR, bound DOUBLE, person_id VARCHAR, recorded_at TIMESTAMP);

-- recorded_at: first seen; seen_at: last seen by an audit; gone_at: the first audit that did not see it any more. Findings about the whole
-- set have no sample.
ALTER TABLE facts.finding ADD COLUMN seen_at TIMESTAMP;
ALTER TABLE facts.finding ADD COLUMN gone_at TIMESTAMP;
UPDATE facts.finding SET seen_at = recorded_at;

CREATE OR REPLACE VIEW findings AS SELECT * EXCLUDE (gone_at) FROM facts.finding WHERE gone_at IS NULL AND sample_id IS NOT NULL;
CREATE VIEW set_findings AS
SELECT kind, group_id AS subject, score, evidence, recorded_at, seen_at FROM facts.finding WHERE gone_at IS NULL AND sample_id IS NULL;
CREATE VIEW finding_history AS SELECT * FROM facts.finding;

CREATE VIEW measures AS
SELECT image_id, 'mean' AS name, mean AS value FROM facts.image
UNION ALL SELECT image_id, 'sd', sd FROM facts.image
UNION ALL SELECT image_id, name, value FROM facts.measure;
