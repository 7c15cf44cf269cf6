"""A trigger left behind in the new database cuts the descriptions of payments."""

from defects.defect import Defect

_BREAKS = """
CREATE FUNCTION shorten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.description := left(NEW.description, 8);
    RETURN NEW;
END $$;
CREATE TRIGGER shorten BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION shorten();
"""
_MENDS = "DROP TRIGGER IF EXISTS shorten ON payments; DROP FUNCTION IF EXISTS shorten();"

DEFECT = Defect(
    id="descriptions-shortened",
    breaks="payments arrive from the legacy database with their descriptions cut",
    noticed_by={"migration": r"(import|validate): exit code"},
    statements={"payments": (_BREAKS, _MENDS)},
)
