-- Signing: acts on versions in a hash chain. An act may also be a waived gate, an answer of the datasheet (detail is JSON, state is NULL), or a new
-- policy (version_id is NULL as well). An approval that others must join leaves the state as it is.
ALTER TABLE facts.version_event ADD COLUMN detail VARCHAR;
-- hash = sha256(prev_hash || text), where prev_hash is the hash of the act before, of whatever version.
ALTER TABLE facts.version_event ADD COLUMN prev_hash VARCHAR;
ALTER TABLE facts.version_event ADD COLUMN hash VARCHAR;

CREATE VIEW facts.version_event_texts AS
SELECT *, to_json([event_id::VARCHAR, seq::VARCHAR, version_id, act, state, manifest_sha256, person_id, role, authentication, reason, detail,
                   epoch_us(recorded_at)::VARCHAR])::VARCHAR AS text
FROM facts.version_event;

UPDATE facts.version_event AS e SET prev_hash = c.prev_hash, hash = c.hash
FROM (
    WITH RECURSIVE texts AS (SELECT seq, text, row_number() OVER (ORDER BY seq) AS n FROM facts.version_event_texts),
    chain AS (
        SELECT seq, n, ''::VARCHAR AS prev_hash, sha256(text) AS hash FROM texts WHERE n = 1
        UNION ALL
        SELECT t.seq, t.n, c.hash, sha256(c.hash || t.text) FROM chain AS c JOIN texts AS t ON t.n = c.n + 1)
    SELECT seq, prev_hash, hash FROM chain) AS c
WHERE c.seq = e.seq;

-- "rejected" is what workspaces before this step called a version that went back for changes.
CREATE OR REPLACE VIEW versions AS
SELECT v.*, CASE e.state WHEN 'rejected' THEN 'draft' ELSE e.state END AS state, e.person_id AS last_person, e.reason AS last_reason,
       e.recorded_at AS last_at
FROM facts.version AS v
LEFT JOIN (SELECT DISTINCT ON (version_id) * FROM facts.version_event WHERE state IS NOT NULL ORDER BY version_id, seq DESC) AS e
ON e.version_id = v.version_id;

CREATE VIEW version_acts AS
SELECT seq, version_id, act, CASE state WHEN 'rejected' THEN 'draft' ELSE state END AS state, manifest_sha256, person_id, role, authentication,
       reason, detail, recorded_at FROM facts.version_event;
