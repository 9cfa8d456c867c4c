// A console consumer in Java, on Kafka's own client: prints what stands in a topic, and nothing of SKEET's is needed for it.
//
//   java -cp 'kafka-jars/*' ConsoleConsumer.java BOOTSTRAP TOPIC COUNT
//
// One line a record: partition, offset, the partition that Java's partitioner gives the key, the schema's id, the key, and the
// first field of the Avro body, which is a string in every record of ours.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.utils.Utils;

public class ConsoleConsumer {
    public static void main(String[] arguments) {
        String topic = arguments[1];
        int left = Integer.parseInt(arguments[2]);
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "isolation.level", "read_committed");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            var partitions = consumer.partitionsFor(topic).stream()
                .map(found -> new TopicPartition(topic, found.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (left > 0) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    print(record, partitions.size());
                    left--;
                }
            }
        }
    }

    static void print(ConsumerRecord<byte[], byte[]> record, int partitions) {
        ByteBuffer value = ByteBuffer.wrap(record.value());
        if (value.get() != 0) throw new IllegalStateException("no Confluent framing");
        int schema = value.getInt();
        byte[] first = new byte[(int) zigzag(value)];
        value.get(first);
        int belongs = Utils.toPositive(Utils.murmur2(record.key())) % partitions;
        System.out.println(String.join("\t", Integer.toString(record.partition()), Long.toString(record.offset()),
            Integer.toString(belongs), Integer.toString(schema), text(record.key()), text(first)));
    }

    static long zigzag(ByteBuffer value) {
        long read = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = value.get();
            read |= (long) (next & 0x7f) << shift;
            if (next >= 0) return (read >>> 1) ^ -(read & 1);
        }
    }

    static String text(byte[] encoded) {
        return new String(encoded, StandardCharsets.UTF_8);
    }
}
