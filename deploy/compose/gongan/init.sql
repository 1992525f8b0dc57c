-- The store of 公安: the population register, with people who cannot exist (province 99 was never assigned).

\getenv password HUTONG_PASSWORD

-- Hutong reads the replication stream and the tables. To put a table into its publication it must have the
-- rights of the table's owner, so the tables belong to a group, and Hutong is a member of it.
CREATE ROLE gongan_owner NOLOGIN;
CREATE ROLE hutong LOGIN REPLICATION PASSWORD :'password' IN ROLE gongan_owner;
GRANT CREATE ON DATABASE gongan TO hutong;

CREATE TABLE public.population_base (
    gmsfhm    char(18)     PRIMARY KEY,
    xm        varchar(50)  NOT NULL,
    cym       varchar(50),
    xbdm      char(1)      NOT NULL,
    mzdm      char(2)      NOT NULL,
    csrq      date         NOT NULL,
    hjdz_xzqh char(6)      NOT NULL,
    hjdz      varchar(100) NOT NULL,
    jzdz_xzqh char(6)      NOT NULL,
    jzdz      varchar(100) NOT NULL,
    hh        char(9)      NOT NULL,
    yhzgx     char(2)      NOT NULL,
    hyzk      char(2)      NOT NULL,
    whcd      char(2)      NOT NULL,
    lxdh      varchar(20),
    zp_ref    varchar(64),
    pcs_dm    char(12)     NOT NULL,
    rkzt      varchar(2)   NOT NULL DEFAULT '正常',
    swrq      date,
    gxsj      timestamptz  NOT NULL DEFAULT now(),
    -- Not in the contract, so it never leaves this department.
    cbr       varchar(50)
);
COMMENT ON TABLE public.population_base IS '人口基础信息';
COMMENT ON COLUMN public.population_base.gmsfhm IS '公民身份号码';
COMMENT ON COLUMN public.population_base.xm IS '姓名';
COMMENT ON COLUMN public.population_base.cym IS '曾用名';
COMMENT ON COLUMN public.population_base.xbdm IS '性别代码';
COMMENT ON COLUMN public.population_base.mzdm IS '民族代码';
COMMENT ON COLUMN public.population_base.csrq IS '出生日期';
COMMENT ON COLUMN public.population_base.hjdz_xzqh IS '户籍地址行政区划代码';
COMMENT ON COLUMN public.population_base.hjdz IS '户籍地址';
COMMENT ON COLUMN public.population_base.jzdz_xzqh IS '居住地址行政区划代码';
COMMENT ON COLUMN public.population_base.jzdz IS '居住地址';
COMMENT ON COLUMN public.population_base.hh IS '户号';
COMMENT ON COLUMN public.population_base.yhzgx IS '与户主关系代码';
COMMENT ON COLUMN public.population_base.hyzk IS '婚姻状况代码';
COMMENT ON COLUMN public.population_base.whcd IS '文化程度代码';
COMMENT ON COLUMN public.population_base.lxdh IS '联系电话';
COMMENT ON COLUMN public.population_base.zp_ref IS '照片引用';
COMMENT ON COLUMN public.population_base.pcs_dm IS '派出所代码';
COMMENT ON COLUMN public.population_base.rkzt IS '人口状态';
COMMENT ON COLUMN public.population_base.swrq IS '死亡日期';
COMMENT ON COLUMN public.population_base.gxsj IS '更新时间';
COMMENT ON COLUMN public.population_base.cbr IS '承办人';

-- With the whole old row Hutong can stay silent about changes outside a grant, and follow row filters exactly.
ALTER TABLE public.population_base REPLICA IDENTITY FULL;
ALTER TABLE public.population_base OWNER TO gongan_owner;

-- The check character of GB 11643: weights, sum mod 11, one of eleven characters.
CREATE FUNCTION pg_temp.citizen_number(body text) RETURNS text LANGUAGE sql AS $$
    SELECT body || substr('10X98765432', 1 + (sum(substr(body, i::int, 1)::int * w) % 11)::int, 1)
    FROM unnest(ARRAY[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) WITH ORDINALITY AS weight (w, i)
$$;

INSERT INTO public.population_base
    (gmsfhm, xm, xbdm, mzdm, csrq, hjdz_xzqh, hjdz, jzdz_xzqh, jzdz, hh, yhzgx, hyzk, whcd, lxdh, pcs_dm, cbr)
SELECT pg_temp.citizen_number('990101' || to_char(born, 'YYYYMMDD') || lpad(seq::text, 3, '0')),
       (ARRAY['张','王','李','赵','陈','欧阳','刘','杨','黄','周'])[1 + n % 10]
           || (ARRAY['伟','芳','敏','静','磊','洋','艳','杰'])[1 + n / 10 % 8],
       CASE seq % 2 WHEN 1 THEN '1' ELSE '2' END,
       lpad((1 + n % 56)::text, 2, '0'), born,
       '990101', format('无有省无有市无有县和平路%s号', 1 + n % 200),
       '990101', format('无有省无有市无有县解放路%s号', 1 + n % 300),
       lpad((n / 3)::text, 9, '0'), CASE n % 3 WHEN 0 THEN '01' WHEN 1 THEN '10' ELSE '20' END,
       CASE n % 3 WHEN 2 THEN '10' ELSE '20' END, (ARRAY['20','30','60','70'])[1 + n % 4],
       CASE WHEN n % 5 <> 0 THEN '1000000' || lpad(n::text, 4, '0') END,
       '990101000001', '经办人'
FROM (SELECT n, date '1940-01-01' + n * 31 AS born, 1 + n % 999 AS seq FROM generate_series(0, 999) AS n) AS person;
