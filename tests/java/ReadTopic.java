import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.apicurio.registry.utils.converter.AvroConverter;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.connect.data.Date;
import org.apache.kafka.connect.data.Decimal;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.storage.Converter;

/**
 * Reads a topic as a sink of Kafka Connect would: ReadTopic BROKERS REGISTRY TOPIC COUNT
 *
 * Knows Kafka and Connect's Avro converter, and nothing of Hutong. REGISTRY is Apicurio's base URL. Waits for COUNT
 * records, and looks whether more come. Prints one JSON object a record, with key and value as the converter returns
 * them. A struct is an object, an array is a list, null is null; anything else is {SCHEMA: TEXT, PARAMETER: TEXT, ...},
 * where SCHEMA is the schema's name, or its type when it has no name. Binary numbers are told by their bits.
 */
public final class ReadTopic {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    /** What comes after the last record that is waited for comes soon. */
    private static final Duration SILENCE = Duration.ofSeconds(1);
    private static final String VARIABLE_DECIMAL = "io.debezium.data.VariableScaleDecimal";

    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0];
        String registry = arguments[1];
        String topic = arguments[2];
        int count = Integer.parseInt(arguments[3]);
        Converter keys = converter(registry, true);
        Converter values = converter(registry, false);
        ObjectMapper json = new ObjectMapper();
        for (ConsumerRecord<byte[], byte[]> record : records(brokers, topic, count)) {
            SchemaAndValue key = keys.toConnectData(topic, record.headers(), record.key());
            SchemaAndValue value = values.toConnectData(topic, record.headers(), record.value());
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("key_schema", key.schema() == null ? null : key.schema().name());
            line.put("value_schema", value.schema() == null ? null : value.schema().name());
            line.put("key", plain(key.schema(), key.value()));
            line.put("value", plain(value.schema(), value.value()));
            System.out.println(json.writeValueAsString(line));
        }
    }

    /** Returns the converter, told what a Connect worker is told in its properties. */
    private static Converter converter(String registry, boolean isKey) {
        Converter converter = new AvroConverter<>();
        converter.configure(Map.of(
                "apicurio.registry.url", registry + "/apis/registry/v2",
                // One byte and a number of four, as the Confluent API gives it out.
                "apicurio.registry.id-handler", "io.apicurio.registry.serde.Legacy4ByteIdHandler",
                "apicurio.registry.use-id", "contentId",
                "apicurio.registry.headers.enabled", false), isKey);
        return converter;
    }

    private static List<ConsumerRecord<byte[], byte[]>> records(String brokers, String topic, int count)
            throws InterruptedException {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", brokers,
                "enable.auto.commit", false,
                "isolation.level", "read_committed",
                "allow.auto.create.topics", false,
                "auto.offset.reset", "earliest");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            Instant deadline = Instant.now().plus(PATIENCE);
            // A topic that is not there yet is waited for as well.
            List<TopicPartition> partitions = partitions(consumer, topic);
            while (partitions.isEmpty()) {
                inTime(deadline, "there is no topic " + topic);
                Thread.sleep(200);
                partitions = partitions(consumer, topic);
            }
            consumer.assign(partitions);
            List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
            Instant quiet = Instant.now();
            while (found.size() < count || Instant.now().isBefore(quiet)) {
                int before = found.size();
                consumer.poll(Duration.ofMillis(200)).forEach(found::add);
                if (found.size() > before) {
                    quiet = Instant.now().plus(SILENCE);
                }
                inTime(deadline, found.size() + " records of " + topic + " came, " + count + " were waited for");
            }
            return found;
        }
    }

    private static List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        List<TopicPartition> partitions = new ArrayList<>();
        List<PartitionInfo> found = consumer.partitionsFor(topic);
        if (found != null) {
            found.forEach(partition -> partitions.add(new TopicPartition(topic, partition.partition())));
        }
        return partitions;
    }

    private static void inTime(Instant deadline, String otherwise) {
        if (Instant.now().isAfter(deadline)) {
            throw new IllegalStateException(otherwise);
        }
    }

    /** Returns a value as JSON has it; a value of another Java class than its schema promises is an exception. */
    private static Object plain(Schema schema, Object value) {
        if (value == null) {
            return null;
        }
        String name = schema.name() == null ? schema.type().getName() : schema.name();
        if (name.equals(VARIABLE_DECIMAL)) {
            Struct number = (Struct) value;
            BigInteger digits = new BigInteger(bytes(number.get("value")));
            return Map.of(name, new BigDecimal(digits, number.getInt32("scale")).toPlainString());
        }
        switch (schema.type()) {
            case STRUCT: {
                Struct struct = (Struct) value;
                struct.validate();
                Map<String, Object> fields = new LinkedHashMap<>();
                for (Field field : schema.fields()) {
                    // A null is a null, not the field's default.
                    fields.put(field.name(), plain(field.schema(), struct.getWithoutDefault(field.name())));
                }
                return fields;
            }
            case ARRAY: {
                List<Object> items = new ArrayList<>();
                ((List<?>) value).forEach(item -> items.add(plain(schema.valueSchema(), item)));
                return items;
            }
            default: {
                Map<String, Object> told = new LinkedHashMap<>();
                told.put(name, text(schema, name, value));
                if (schema.parameters() != null) {
                    told.putAll(schema.parameters());
                }
                return told;
            }
        }
    }

    private static String text(Schema schema, String name, Object value) {
        if (name.equals(Date.LOGICAL_NAME)) {
            return ((java.util.Date) value).toInstant().atOffset(ZoneOffset.UTC).toLocalDate().toString();
        }
        if (name.equals(Decimal.LOGICAL_NAME)) {
            return ((BigDecimal) value).toPlainString();
        }
        switch (schema.type()) {
            case BOOLEAN: return ((Boolean) value).toString();
            case INT16: return ((Short) value).toString();
            case INT32: return ((Integer) value).toString();
            case INT64: return ((Long) value).toString();
            case FLOAT32: return String.format("%08x", Float.floatToRawIntBits((Float) value));
            case FLOAT64: return String.format("%016x", Double.doubleToRawLongBits((Double) value));
            case BYTES: return hex(bytes(value));
            case STRING: return (String) value;
            default: throw new IllegalStateException("no row holds a " + schema.type());
        }
    }

    private static byte[] bytes(Object value) {
        if (value instanceof byte[]) {
            return (byte[]) value;
        }
        ByteBuffer buffer = ((ByteBuffer) value).duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte b : bytes) {
            text.append(String.format("%02x", b));
        }
        return text.toString();
    }
}
