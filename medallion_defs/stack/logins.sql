-- What each login of the embedded server may enter. Every statement may be repeated.

-- name: medallion
-- In the database medallion: entered by its own logins only. TEMPORARY stays, for loads go through a temporary table.
DO $$
BEGIN
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO medallion_bronze, medallion_silver, medallion_gold, medallion_console,
        medallion_sql, medallion_review', current_database());
    ALTER ROLE medallion_sql SET default_transaction_read_only = on;
    ALTER ROLE medallion_sql SET statement_timeout = '5min';
END $$;

-- name: dagster
-- In the database dagster: its login owns it, and what an earlier Medallion made in it as the administrator.
DO $$
DECLARE relation record;
BEGIN
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('ALTER DATABASE %I OWNER TO medallion_dagster', current_database());
    FOR relation IN
        SELECT oid::regclass AS name FROM pg_class
        -- Sequences and indexes follow their table.
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND relowner <> 'medallion_dagster'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO medallion_dagster', relation.name);
    END LOOP;
END $$;

-- name: strays
-- Logins that may do more than their own role: (login, what).
SELECT login.rolname, 'is a superuser'
FROM pg_roles AS login
WHERE login.rolname = ANY(%(logins)s) AND (login.rolsuper OR login.rolbypassrls OR login.rolcreaterole)
UNION ALL
SELECT login.rolname, 'may act as ' || other.rolname
FROM pg_roles AS login
JOIN pg_roles AS other ON other.oid <> login.oid AND pg_has_role(login.oid, other.oid, 'MEMBER')
WHERE login.rolname = ANY(%(logins)s) AND NOT login.rolsuper
UNION ALL
SELECT wanted.name, 'cannot log in'
FROM unnest(%(logins)s::text[]) AS wanted (name)
LEFT JOIN pg_roles AS login ON login.rolname = wanted.name
WHERE login.rolcanlogin IS NOT TRUE
ORDER BY 1, 2

-- name: itself
-- The same of the login that asks, on a server that is not ours.
SELECT login.rolsuper, array(
    SELECT other.rolname::text FROM pg_roles AS other
    WHERE other.rolname LIKE 'medallion\_%%' AND other.rolname <> %(role)s AND other.oid <> login.oid
        AND pg_has_role(login.oid, other.oid, 'MEMBER')
    ORDER BY 1
)
FROM pg_roles AS login WHERE login.rolname = session_user
