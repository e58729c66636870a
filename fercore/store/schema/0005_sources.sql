-- Where samples come from: provenance of every import, the file behind a sample, and what changed from one import of a source to the next.

-- method is JSON: how pixels were decoded and made 48x48; label_map is the id of the map from raw labels to classes, labels its content (JSON).
ALTER TABLE facts.import ADD COLUMN name VARCHAR;
ALTER TABLE facts.import ADD COLUMN authors VARCHAR;
ALTER TABLE facts.import ADD COLUMN organisation VARCHAR;
ALTER TABLE facts.import ADD COLUMN url VARCHAR;
ALTER TABLE facts.import ADD COLUMN method VARCHAR;
ALTER TABLE facts.import ADD COLUMN label_map VARCHAR;
ALTER TABLE facts.import ADD COLUMN labels VARCHAR;
ALTER TABLE facts.import ADD COLUMN rows_gone BIGINT;
ALTER TABLE facts.import ADD COLUMN rows_relabelled BIGINT;
ALTER TABLE facts.import ADD COLUMN rows_moved BIGINT;
ALTER TABLE facts.import ADD COLUMN rows_back BIGINT;
ALTER TABLE facts.rejected_row ADD COLUMN file_name VARCHAR;

-- Append-only: a row when a sample comes in and whenever its file changes; the last one counts. file_sha256 names its bytes in facts.original.
-- change is added, relabelled (raw or given label), moved (name or split), rewritten (same pixels in other bytes), gone or back.
-- facts.sample holds what the source says now, so a change of label or split also updates it; what it said before stays here.
CREATE TABLE facts.sample_file (
    sample_id VARCHAR, import_id VARCHAR, change VARCHAR, file_name VARCHAR, file_sha256 VARCHAR, raw_label VARCHAR, given_label VARCHAR,
    source_split VARCHAR, note VARCHAR, recorded_at TIMESTAMP);

-- Original bytes lie in originals/<pack>, `size` bytes from `place` on, after a line "sha256 size" that lets a pack be read without this table.
CREATE TABLE facts.original (file_sha256 VARCHAR, pack VARCHAR, place BIGINT, size BIGINT, recorded_at TIMESTAMP);

CREATE VIEW sample_files AS
SELECT DISTINCT ON (f.sample_id) f.sample_id, s.source_id, s.source_row, s.image_id, f.file_name, f.file_sha256, f.raw_label, f.given_label,
       f.source_split, f.change = 'gone' AS gone, f.note, f.import_id, f.recorded_at
FROM facts.sample_file AS f JOIN facts.sample AS s ON s.sample_id = f.sample_id ORDER BY f.sample_id, f.recorded_at DESC;

CREATE VIEW imports AS SELECT * FROM facts.import;

CREATE OR REPLACE VIEW sources AS
SELECT source_id, arg_max(kind, recorded_at) AS kind, arg_max(file_name, recorded_at) AS file_name,
       arg_max(licence, recorded_at) AS licence, arg_max(note, recorded_at) AS note, sum(rows_added) AS rows_added,
       arg_max(rows_rejected, recorded_at) AS rows_rejected, max(recorded_at) AS recorded_at,
       coalesce(arg_max(name, recorded_at), source_id) AS name, arg_max(authors, recorded_at) AS authors,
       arg_max(organisation, recorded_at) AS organisation, arg_max(url, recorded_at) AS url,
       arg_max(label_map, recorded_at) AS label_map, arg_max(method, recorded_at) AS method,
       arg_max(file_sha256, recorded_at) AS file_sha256, arg_max(person_id, recorded_at) AS person_id, count(*) AS imports
FROM facts.import WHERE kind NOT IN ('tags', 'labels') GROUP BY source_id;
