-- The store of 人社: empty. Hutong makes its own schema `hutong` here, and the replica in the schema `share`.

\getenv password HUTONG_PASSWORD

CREATE ROLE hutong LOGIN PASSWORD :'password';
GRANT CREATE ON DATABASE renshe TO hutong;
CREATE SCHEMA share AUTHORIZATION hutong;
